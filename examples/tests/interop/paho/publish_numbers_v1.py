"""Publishes a number to MYTOPIC every second, for paho-mqtt 1.x. Arguments: HOST PORT."""

import sys
import time

import paho.mqtt.client as mqtt


def on_connect(client, userdata, flags, rc):
    print("connected with result code", rc, flush=True)


client = mqtt.Client()
client.on_connect = on_connect
client.connect(sys.argv[1], int(sys.argv[2]), 60)
client.loop_start()

number = 0
while True:
    client.publish("MYTOPIC", number)
    number += 1
    time.sleep(1)
