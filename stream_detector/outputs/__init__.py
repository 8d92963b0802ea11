"""What leaves the service: one file a reader of the events.

Events are facts; each file here says what one kind of listener gets of them. None of them changes
an event, and none of them knows a socket. Read `messages` first: it is the contract in code.
"""
