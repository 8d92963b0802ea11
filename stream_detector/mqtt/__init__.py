"""MQTT: one thread, one connection, bytes in and bytes out.

Nothing here knows what a reading or an alert is: topics and payloads are bytes. Read in this order:

    link           one session at one broker: connect, subscribe, read, acknowledge, and again, for ever
    connection     one connection: its login and its pings; `waiter`
    reconnection   why a connection ended, and when and how the next is opened; `backoff`
    subscriptions  which filters are asked for, granted, denied, given back
    client, dial   paho, made to hand over bytes; how a connection is opened
    frames         bytes -> columns of messages, and messages -> bytes
    publisher      what is said to the broker, until it has confirmed it
    requests       where a request wants its answer
    sentences      what is wrong, in words; `terms`, what the broker grants
    broker         the embedded one
    broker_check/  what `stream-detector check` asks a broker
"""
