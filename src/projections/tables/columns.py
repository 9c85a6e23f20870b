"""Types of the fields of rows: each sets the largest value that its column stores.

The limits are for databases and their indexes; nothing checks a row in memory. Lengths are in code points.
"""

from typing import Annotated

from msgspec import Meta

UserId = Annotated[str, Meta(max_length=80)]  # contract: 64, or partition:<n>
Id = Annotated[str, Meta(max_length=140)]  # contract: 128; ids that the ledger makes may be longer
AssetCode = Annotated[str, Meta(max_length=32)]
Text = Annotated[str, Meta(max_length=128)]
Digest = Annotated[str, Meta(max_length=64)]
Status = Annotated[str, Meta(max_length=16)]
TypeName = Annotated[str, Meta(max_length=40)]
Reason = Annotated[str, Meta(max_length=500)]
PositionText = Annotated[str, Meta(max_length=24)]
Sum = Annotated[str, Meta(max_length=40)]
"""A sum without bounds, as a decimal text: no integer type of a database is large enough."""
Json = str
"""A text without bounds."""
Small = Annotated[int, Meta(ge=-(2**31), lt=2**31)]
"""An integer of 32 bits; all others have 64."""
