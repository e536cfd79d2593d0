"""The schema, as numbered steps that only go forward. A step that was released is never edited: add another one.

`{engine}` and its kin are filled in by `farcall_store.schema`, so the same steps make a folder or a cluster's tables.
"""
