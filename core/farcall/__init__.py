"""The shared language of the rooms.

records, spans, configuration, the DNS cache, commands. No room is imported here.
"""
