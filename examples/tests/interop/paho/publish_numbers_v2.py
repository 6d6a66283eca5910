"""Publishes a number to MYTOPIC every second, for paho-mqtt 2.x. Arguments: HOST PORT."""

import sys
import time

import paho.mqtt.client as mqtt


def on_connect(client, userdata, flags, reason_code, properties):
    print("connected with result code", reason_code, flush=True)


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
client.on_connect = on_connect
client.connect(sys.argv[1], int(sys.argv[2]), 60)
client.loop_start()

number = 0
while True:
    client.publish("MYTOPIC", number)
    number += 1
    time.sleep(1)
