"""A nightlight's device as a course on paho-mqtt 1.x teaches it, to test ours against.

Arguments: HOST PORT ID FILE_OF_THE_LIGHT FILE_OF_THE_LED. It sends more often than a lesson has time for.
"""

import json
import sys
import time

import paho.mqtt.client as mqtt
from board import Led, LightSensor

host, port, device_id, light_file, led_file = sys.argv[1:]
sensor = LightSensor(light_file)
led = Led(led_file)

client = mqtt.Client(device_id + "nightlight_client")
client.connect(host, int(port))
client.loop_start()
print("MQTT connected!")


def obey(client, userdata, message):
    command = json.loads(message.payload.decode())
    print("Message received:", command)
    led.on() if command["led_on"] else led.off()


client.subscribe(device_id + "/commands")
client.on_message = obey

while True:
    telemetry = json.dumps({"light": sensor.light})
    print("Sending telemetry ", telemetry)
    client.publish(device_id + "/telemetry", telemetry)
    time.sleep(0.1)
