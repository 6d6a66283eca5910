"""Checks what a broker does for paho-mqtt, 1.x or 2.x. Arguments: HOST PORT [TRANSPORT].

Prints "ok" and what was checked, a line each. An assertion that fails ends it with status 1.
"""

import queue
import sys

import paho.mqtt.client as mqtt

HOST, PORT = sys.argv[1], int(sys.argv[2])
TRANSPORT = sys.argv[3] if len(sys.argv) > 3 else "tcp"
DEADLINE = 30


def make_client(client_id, clean=True, protocol=mqtt.MQTTv311):
    """A client of either version of paho, with its messages and events in queues."""
    if hasattr(mqtt, "CallbackAPIVersion"):
        version = mqtt.CallbackAPIVersion.VERSION1
        client = mqtt.Client(
            version, client_id, clean_session=clean, protocol=protocol, transport=TRANSPORT
        )
    else:
        client = mqtt.Client(
            client_id, clean_session=clean, protocol=protocol, transport=TRANSPORT
        )
    client.messages = queue.Queue()
    client.connected = queue.Queue()
    client.granted = queue.Queue()
    client.on_message = lambda _client, _data, message: client.messages.put(message)
    client.on_connect = lambda _client, _data, flags, code: client.connected.put((flags, code))
    client.on_subscribe = lambda _client, _data, _id, granted: client.granted.put(list(granted))
    return client


def connect(client, host=HOST):
    """Connects and returns whether the broker had a session for this client."""
    client.connect(host, PORT, 60)
    client.loop_start()
    flags, code = client.connected.get(timeout=DEADLINE)
    assert code == 0, code
    return flags["session present"]


def subscribe(client, *filters):
    client.subscribe(list(filters))
    assert client.granted.get(timeout=DEADLINE) == [qos for _, qos in filters]


def publish(client, topic, payload, qos, retain=False):
    client.publish(topic, payload, qos, retain).wait_for_publish(DEADLINE)


def received(client):
    message = client.messages.get(timeout=DEADLINE)
    return message.topic, message.payload, message.qos, message.retain


def every_qos_goes_both_ways():
    publisher, subscriber = make_client("publisher"), make_client("subscriber")
    connect(publisher)
    connect(subscriber)
    for granted in range(3):
        subscribe(subscriber, ("qos/#", granted))
        for published in range(3):
            publish(publisher, "qos/%d" % published, b"hello", published)
            expected = ("qos/%d" % published, b"hello", min(granted, published), False)
            assert received(subscriber) == expected
    leave(publisher, subscriber)


def a_retained_message_is_set_and_cleared():
    publisher = make_client("publisher")
    connect(publisher)
    publish(publisher, "kept/a", b"state", 1, retain=True)
    first = make_client("first")
    connect(first)
    subscribe(first, ("kept/#", 2))
    assert received(first) == ("kept/a", b"state", 1, True)
    publish(publisher, "kept/a", b"", 1, retain=True)
    assert received(first) == ("kept/a", b"", 1, False)
    second = make_client("second")
    connect(second)
    subscribe(second, ("kept/#", 2))
    publish(publisher, "kept/end", b"end", 1)
    assert received(second) == ("kept/end", b"end", 1, False)
    leave(publisher, first, second)


def a_kept_session_gets_what_it_missed():
    publisher = make_client("publisher")
    connect(publisher)
    keeper = make_client("keeper", clean=False)
    assert connect(keeper) == 0
    subscribe(keeper, ("missed", 2))
    leave(keeper)
    # One QoS after the other: paho hands out a message of QoS 2 only at its PUBREL.
    for number in range(50):
        publish(publisher, "missed", str(number), 1 + number // 25)
    keeper = make_client("keeper", clean=False)
    assert connect(keeper) == 1
    for number in range(50):
        assert received(keeper) == ("missed", str(number).encode(), 1 + number // 25, False)
    leave(publisher, keeper)


def unsubscribing_ends_deliveries():
    client = make_client("leaver")
    unsubscribed = queue.Queue()
    client.on_unsubscribe = lambda *_: unsubscribed.put(True)
    connect(client)
    subscribe(client, ("a", 1), ("b", 1))
    client.unsubscribe("a")
    unsubscribed.get(timeout=DEADLINE)
    publish(client, "a", b"no", 1)
    publish(client, "b", b"yes", 1)
    assert received(client) == ("b", b"yes", 1, False)
    leave(client)


def version_3_1_is_spoken():
    client = make_client("old", protocol=mqtt.MQTTv31)
    connect(client)
    subscribe(client, ("old", 2))
    publish(client, "old", b"hello", 2)
    assert received(client) == ("old", b"hello", 2, False)
    leave(client)


def leave(*clients):
    for client in clients:
        client.disconnect()
        client.loop_stop()


for check in (
    every_qos_goes_both_ways,
    a_retained_message_is_set_and_cleared,
    a_kept_session_gets_what_it_missed,
    unsubscribing_ends_deliveries,
    version_3_1_is_spoken,
):
    check()
    print("ok", check.__name__, flush=True)
