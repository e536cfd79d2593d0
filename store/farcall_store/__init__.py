"""Everything ClickHouse.

schema, migrations, writer, search, readers, and the embedded engine behind HTTP.
"""
