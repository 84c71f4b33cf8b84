"""Little programs that run on hosts of a lab."""

ECHO = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("0.0.0.0", 7)); print(flush=True)
while True:
    data, peer = s.recvfrom(2048); s.sendto(data, peer)
"""
PING = """
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect((sys.argv[1], 7)); s.settimeout(0.5)
for i in range(int(sys.argv[2])):
    start = time.monotonic(); s.send(i.to_bytes(4, "big"))
    try:
        while int.from_bytes(s.recv(100), "big") != i: pass
        print((time.monotonic() - start) * 1000)
    except TimeoutError:
        print("nan")
"""
SINK = """
import socket, time
s = socket.create_server(("0.0.0.0", 5001)); print(flush=True)
c, _ = s.accept(); start = time.monotonic(); n = 0
while time.monotonic() - start < 2: n += len(c.recv(1 << 20))
print(8 * n / (time.monotonic() - start))
"""
FLOOD = """
import socket, sys
s = socket.create_connection((sys.argv[1], 5001))
try:
    while True: s.sendall(bytes(1 << 16))
except OSError:
    pass
"""
