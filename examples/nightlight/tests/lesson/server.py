"""A nightlight's server as a course on paho-mqtt 1.x teaches it, to test ours against.

Arguments: HOST PORT ID; others are not looked at.
"""

import json
import sys
import time

import paho.mqtt.client as mqtt

host, port, device_id = sys.argv[1:4]

client = mqtt.Client(device_id + "nightlight_server")
client.connect(host, int(port))
client.loop_start()


def decide(client, userdata, message):
    telemetry = json.loads(message.payload.decode())
    print("Message received:", telemetry)
    command = {"led_on": telemetry["light"] < 300}
    print("Sending message:", command)
    client.publish(device_id + "/commands", json.dumps(command))


client.subscribe(device_id + "/telemetry")
client.on_message = decide
print("MQTT connected!")

while True:
    time.sleep(2)
