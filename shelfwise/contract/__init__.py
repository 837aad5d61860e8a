"""The data contract: what comes in, and what happens to what does not fit.

`tables` says which tables, columns and limits there are; `reader` reads a data directory, `uploads` one vendor file;
`store` lists and reads the uploads folder and sets bad files aside; `decide` says which files are new, and `ledger`
keeps what a sensor remembers.
"""

from shelfwise.contract.decide import Decision, Entry, Request, SensorState, decide, learn, remembered, run_key
from shelfwise.contract.ledger import CursorError, Ledger
from shelfwise.contract.reader import TableRead, check_mappings, fingerprint, list_tables, read_table
from shelfwise.contract.repairs import Repair
from shelfwise.contract.storage import ListingError
from shelfwise.contract.store import UploadFile, UploadStore, list_rejected, set_aside
from shelfwise.contract.tables import TABLES, schema
from shelfwise.contract.uploads import Upload, UploadLimits, parse_upload

__all__ = [
    "TABLES",
    "CursorError",
    "Decision",
    "Entry",
    "Ledger",
    "ListingError",
    "Repair",
    "Request",
    "SensorState",
    "TableRead",
    "Upload",
    "UploadFile",
    "UploadLimits",
    "UploadStore",
    "check_mappings",
    "decide",
    "fingerprint",
    "learn",
    "list_rejected",
    "list_tables",
    "parse_upload",
    "read_table",
    "remembered",
    "run_key",
    "schema",
    "set_aside",
]
