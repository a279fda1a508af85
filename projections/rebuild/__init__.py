"""A projection's tables made anew beside the live ones, compared with them, and put in their place.

`run` has the order of it all, `building` makes and finishes the new tables, `comparing` holds them against the live
ones, `exchange` puts them in their place. What goes into them is made by the projection itself, as
`projections.service` runs it.
"""
