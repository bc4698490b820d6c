"""Listens in the place of systemd: python3 notify.py BINARY. READY=1 comes once and only when the station serves, then
WATCHDOG=1 well within its limit, none while the process hangs, STOPPING=1 when it is asked to stop."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

LIMIT = 3.0
PATIENCE = 30.0


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def heard(notify, within):
    notify.settimeout(within)
    try:
        return notify.recv(4096).decode().splitlines()
    except socket.timeout:
        return []


def main(binary, folder):
    operators = free_port()
    os.mkdir(f"{folder}/bootfiles")
    with open(f"{folder}/bootline.yml", "w") as config:
        config.write(
            "network: {interface: lo, address: 127.0.0.1/8, dhcp: {mode: off}, tftp: {listen: '127.0.0.1:0'}}\n"
            f"http: {{operators: '127.0.0.1:{operators}', devices: '127.0.0.1:0'}}\nbus: {{mqtt: off}}\n"
            f"data: {folder}/data\nbootfiles: {folder}/bootfiles\n"
        )
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(f"{folder}/notify")
    env = dict(os.environ, NOTIFY_SOCKET=f"{folder}/notify", WATCHDOG_USEC=str(int(LIMIT * 1e6)))
    agent = subprocess.Popen(
        [binary, "run", "--config", f"{folder}/bootline.yml"], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        words = heard(notify, PATIENCE)
        assert "READY=1" in words, words
        urllib.request.urlopen(f"http://127.0.0.1:{operators}/api/v1/projects", timeout=5).read()
        print("READY=1, and it serves")
        last, longest = time.monotonic(), 0.0
        for _ in range(5):
            words = heard(notify, LIMIT)
            assert "WATCHDOG=1" in words and "READY=1" not in words, words
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        print(f"five WATCHDOG=1, at most {longest:.2f} s apart with a limit of {LIMIT:.0f} s")
        agent.send_signal(signal.SIGSTOP)
        while heard(notify, LIMIT):
            pass
        print("a process that hangs says nothing, so systemd would end it")
        agent.send_signal(signal.SIGCONT)
        agent.terminate()
        words = []
        while "STOPPING=1" not in words:
            words = heard(notify, PATIENCE)
            assert words, "no STOPPING=1"
        code = agent.wait(PATIENCE)
        assert code == 0, code
        print("STOPPING=1, exit code 0")
    finally:
        agent.kill()
        agent.wait()


with tempfile.TemporaryDirectory() as scratch:
    main(os.path.abspath(sys.argv[1]), scratch)
