# A token for benchmarks: it tells of transfers, as many at once as it is asked for.

event Transfer:
    sender: indexed(address)
    receiver: indexed(address)
    amount: uint256

decimals: public(uint8)


@deploy
def __init__(places: uint8):
    self.decimals = places


@external
def pour(to: address, amount: uint256, times: uint256):
    for number: uint256 in range(times, bound=1000):
        log Transfer(sender=msg.sender, receiver=to, amount=amount + number)
