# A token for tests: anyone mints, transfers may cost a fee, and it can emit what only looks like a payment.

event Transfer:
    sender: indexed(address)
    receiver: indexed(address)
    amount: uint256

decimals: public(uint8)
balanceOf: public(HashMap[address, uint256])
fee: uint256


@deploy
def __init__(places: uint8, fee: uint256):
    self.decimals = places
    self.fee = fee


@external
def mint(to: address, amount: uint256):
    self.balanceOf[to] += amount


@external
def transfer(to: address, amount: uint256) -> bool:
    self._move(msg.sender, to, amount)
    return True


@external
def transfer_twice(to: address, amount: uint256):
    self._move(msg.sender, to, amount)
    self._move(msg.sender, to, amount)


@internal
def _move(sender: address, to: address, amount: uint256):
    self.balanceOf[sender] -= amount
    self.balanceOf[to] += amount - self.fee
    log Transfer(sender=sender, receiver=to, amount=amount - self.fee)


@external
def pose_as_nft(to: address, number: uint256):
    raw_log(
        [
            keccak256("Transfer(address,address,uint256)"),
            convert(msg.sender, bytes32),
            convert(to, bytes32),
            convert(number, bytes32),
        ],
        b"",
    )
