"""An autopilot played by MAVSDK, run by the peer's Python: `mavsdk_autopilot.py LATITUDE LONGITUDE PORT`, of UDP.

It says where it is ten times a second, and has a camera: it prints `photo` for each time that it is told to take one.
It does not know how to hold.
"""

import queue
import sys
import time

from mavsdk import ComponentType, Configuration, Mavsdk
from mavsdk.plugins.camera_server import CameraFeedback, CameraServer, CaptureInfo, Information
from mavsdk.plugins.telemetry_server import Heading, Position, TelemetryServer, VelocityNed


def main(latitude: float, longitude: float, port: int) -> None:
    """Until it is killed."""
    mavsdk = Mavsdk(Configuration.create_with_component_type(ComponentType.AUTOPILOT))
    mavsdk.add_any_connection(f"udpout://127.0.0.1:{port}")
    component = mavsdk.server_component_by_type(ComponentType.AUTOPILOT)
    camera, telemetry = CameraServer(component), TelemetryServer(component)
    camera.set_information(Information(vendor_name="none", model_name="none"))
    asked: queue.SimpleQueue[int] = queue.SimpleQueue()
    told = camera.subscribe_take_photo(lambda index, *_: asked.put(index))
    print("ready", flush=True)
    place = Position(latitude, longitude, 500.0, 20.0)
    while told is not None:
        telemetry.publish_position(place, VelocityNed(1.0, 2.0, 0.0), Heading(90.0))
        time.sleep(0.1)
        while not asked.empty():
            print("photo", flush=True)
            camera.respond_take_photo(CameraFeedback.OK, CaptureInfo(is_success=True, index=asked.get()))


if __name__ == "__main__":
    main(float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
