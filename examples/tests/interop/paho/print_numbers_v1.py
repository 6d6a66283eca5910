"""Prints what arrives on MYTOPIC, for paho-mqtt 1.x. Arguments: HOST PORT."""

import sys

import paho.mqtt.client as mqtt


def on_connect(client, userdata, flags, rc):
    print("connected with result code", rc, flush=True)
    client.subscribe("MYTOPIC")


def on_message(client, userdata, message):
    print(message.topic, message.payload.decode(), flush=True)


client = mqtt.Client()
client.on_connect = on_connect
client.on_message = on_message
client.connect(sys.argv[1], int(sys.argv[2]), 60)
client.loop_forever()
