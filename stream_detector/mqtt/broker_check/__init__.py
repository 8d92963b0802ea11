"""What `stream-detector check` asks a broker: may we do what we shall do, and will it keep what it takes?

Everything is asked from sessions of our own, below `{base}/canary` where that is possible, so that a
running service is not disturbed. A broker hides much: it may grant a subscription and deliver nothing,
acknowledge a message and drop it, change a topic on its way. So messages are sent and waited for, and a
session leaves, misses many of them, and counts what comes when it is back.

Read `check` (the order of it all), `guest` (a connection that asks), then what is asked: `login`,
`permissions`, `carrying`, `keeping`. A `finding` is one line of the answer.
"""
