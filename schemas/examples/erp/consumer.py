#!/usr/bin/env python3
"""An ERP's side of bootline's events: each of them exactly once, in order for each device.

What makes it so (schemas/README.md tells why):
  1. a durable subscription: fixed client id, clean start off, a session that outlives our absence
  2. an inbox with (source, id) as primary key, written in the same transaction as the posting
  3. an acknowledgement to the broker after the commit, never before
  4. a hole in the sequence of a source and epoch is filled from REST before anything behind it is posted; a hole at the
     end is found by asking, at each connect and whenever it is quiet
  5. a new epoch begins its own count; what was posted stays posted

Needs Python 3.9 and paho-mqtt 1.6 (Debian: python3-paho-mqtt) or 2.x.
"""
import argparse
import json
import signal
import sqlite3
import sys
import time
import urllib.request

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

PAGE = 500  # events a page of REST
WEEK = 7 * 24 * 3600  # how long the broker keeps our session; longer than our longest absence

TABLES = """
CREATE TABLE IF NOT EXISTS inbox (
    source   TEXT NOT NULL,
    id       TEXT NOT NULL,
    epoch    TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    subject  TEXT NOT NULL,
    type     TEXT NOT NULL,
    body     TEXT NOT NULL,
    PRIMARY KEY (source, id)
);
-- How far we are, without a hole.
CREATE TABLE IF NOT EXISTS place (
    source   TEXT NOT NULL,
    epoch    TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (source, epoch)
);
-- The business: one row a finished attempt, whatever comes twice.
CREATE TABLE IF NOT EXISTS produced (
    mac     TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    serial  TEXT,
    project TEXT,
    sha256  TEXT NOT NULL,
    at      TEXT NOT NULL,
    PRIMARY KEY (mac, attempt)
);
"""


def log(text):
    print(text, file=sys.stderr, flush=True)


def same_count(one, other):
    return one["source"] == other["source"] and one["epoch"] == other["epoch"]


class StationAway(Exception):
    """A hole cannot be read now. Nothing is acknowledged: started again (by systemd, say), we go on where we were."""


class Inbox:
    """The database of the consumer. One transaction an event, or a filled hole."""

    def __init__(self, path, rest, token=None, simulated=False):
        self.rest = rest.rstrip("/")
        self.token = token
        self.simulated = simulated
        self.heard = time.monotonic()
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = FULL")
        self.db.executescript(TABLES)

    def take(self, event):
        """Takes one event, and before it what is missing in front of it. When this returns, it is on disk."""
        sequence = int(event["sequence"])
        place = self.place(event)
        if place is None:
            place = self.begin(event)
        if sequence <= place:
            return  # a repeat: the broker had not seen our acknowledgement
        if sequence > place + 1:
            self.fill(event, place)
        self.write([event])

    def place(self, event):
        """How far we are in the count that this event belongs to; None if it is the first one of it."""
        row = self.db.execute(
            "SELECT sequence FROM place WHERE source = ? AND epoch = ?", (event["source"], event["epoch"])
        ).fetchone()
        return row[0] if row else None

    def begin(self, event):
        """A count that we do not know: a new station, or one whose database was made anew or restored. Finds where the
        journal begins to count so; what the station still has of it is read from there on."""
        log(f"{event['source']} counts in epoch {event['epoch']} now: reconcile with GET /api/v1/sessions")
        first = int(event["sequence"])
        while first > 1:
            page = self.page(max(0, first - 1 - PAGE))
            before = [e for e in page if same_count(e, event) and int(e["sequence"]) < first]
            if not before:
                break  # the one before is of another epoch, or pruned
            first = int(before[0]["sequence"])
            if len(before) < min(PAGE, len(page)):
                break
        return first - 1

    def fill(self, event, place):
        """Reads what is missing between our place and this event from the station: the same events, with the same ids."""
        sequence = int(event["sequence"])
        log(f"hole after {place}, before {sequence}: read from {self.rest}")
        while place + 1 < sequence:
            page = self.page(place)
            missing = [e for e in page if same_count(e, event) and place < int(e["sequence"]) < sequence]
            if not missing or int(missing[0]["sequence"]) != place + 1:
                # The station keeps events for a time and says `events.lost` before it drops one that we may miss.
                log(f"{event['source']}: what follows {place} is not in the journal any more: reconcile with sessions")
                return
            self.write(missing)
            place = int(missing[-1]["sequence"])

    def catch_up(self):
        """Everything that the station has and we have not: a hole at the end has no event behind it that would show it.
        The broker may have lost our session, or have dropped what did not fit into its queue."""
        place = self.db.execute("SELECT sequence FROM place ORDER BY rowid DESC LIMIT 1").fetchone()
        place = place[0] if place else 0
        try:
            while page := self.page(place):
                for event in page:
                    self.take(event)
                place = int(page[-1]["sequence"])
        except StationAway as away:
            log(f"{away}; asked again later")

    def page(self, after):
        """Events of the station after a sequence, oldest first. A station that restarts is back in seconds."""
        request = urllib.request.Request(f"{self.rest}/api/v1/events?after={after}&limit={PAGE}")
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        for pause in (0.2, 0.5, 1, 2, 4, 8):
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    return json.load(answer)["events"]
            except OSError as wrong:
                log(f"{self.rest} does not answer: {wrong}")
                time.sleep(pause)
        raise StationAway(f"{self.rest} is not there")

    def write(self, events):
        self.db.execute("BEGIN IMMEDIATE")
        try:
            for event in events:
                fresh = self.db.execute(
                    "INSERT INTO inbox VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                    (event["source"], event["id"], event["epoch"], int(event["sequence"]), event["subject"],
                     event["type"], json.dumps(event, sort_keys=True)),
                ).rowcount
                if fresh:
                    self.post(event)
                self.db.execute(
                    "INSERT INTO place VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET sequence = excluded.sequence",
                    (event["source"], event["epoch"], int(event["sequence"])),
                )
            self.db.execute("COMMIT")
            print(f"took {events[-1]['sequence']}", flush=True)
        except BaseException:
            self.db.execute("ROLLBACK")
            raise

    def post(self, event):
        """The business. Idempotent by its own key too, because a key of ours could come from elsewhere as well."""
        data = event["data"]
        # Unknown types and unknown fields are normal: they are added without a new major version.
        if event["type"] == "io.bootline.device.provisioned.v1" and (self.simulated or not data.get("simulated")):
            self.db.execute(
                "INSERT INTO produced VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (data["mac"], data["attempt"], data.get("serial"), data.get("project"), data["sha256"], event["time"]),
            )


def connect(args, inbox):
    """MQTT 5 with a durable session and acknowledgements by hand."""
    chosen = {"client_id": args.client_id, "protocol": mqtt.MQTTv5}
    if hasattr(mqtt, "CallbackAPIVersion"):  # paho 2
        chosen["callback_api_version"] = mqtt.CallbackAPIVersion.VERSION2
        client = mqtt.Client(manual_ack=True, **chosen)
    else:
        client = mqtt.Client(**chosen)
    if args.username:
        client.username_pw_set(args.username, args.password)
    if args.ca:
        client.tls_set(ca_certs=args.ca)

    def on_connect(client, userdata, flags, reason, properties=None):
        if getattr(reason, "is_failure", False):
            log(f"the broker refuses us: {reason}")
            return
        # Again at each connect: a broker that lost its sessions has lost the subscription too.
        client.subscribe(args.topic, qos=1)

    def on_subscribe(client, userdata, mid, reasons, properties=None):
        log("subscribed")
        inbox.catch_up()

    def on_message(client, userdata, message):
        inbox.heard = time.monotonic()
        try:
            event = json.loads(message.payload)
            known = event["specversion"] == "1.0"
        except (ValueError, KeyError, TypeError):
            known = False
        if known:
            inbox.take(event)
        else:
            log(f"no event on {message.topic}")
        acknowledge(client, message)

    client.on_connect = on_connect
    client.on_subscribe = on_subscribe
    client.on_message = on_message
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = WEEK
    # Few on the way: each waits for its own commit.
    properties.ReceiveMaximum = 20
    client.connect_async(args.host, args.port, keepalive=30, clean_start=False, properties=properties)
    return client


def acknowledge(client, message):
    """After the commit. paho 2 does it when asked; paho 1.6 does it by itself when `on_message` returns, and not at all
    if `on_message` raises, which is why nothing is caught there."""
    if hasattr(mqtt, "CallbackAPIVersion"):
        client.ack(message.mid, message.qos)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--topic", default="bootline/v1/+/evt/#", help="with the root of the station in front, if it has one")
    parser.add_argument("--rest", default="http://127.0.0.1:8080", help="the operator side of the station")
    parser.add_argument("--database", default="erp.sqlite")
    parser.add_argument("--client-id", default="erp-bootline")
    parser.add_argument("--username")
    parser.add_argument("--password")
    parser.add_argument("--quiet", type=float, default=60, help="after so many seconds without an event the station is asked for newer ones")
    parser.add_argument("--token", help="of the operator side, where it wants one")
    parser.add_argument("--simulated", action="store_true", help="book simulated devices too; only for trying it out")
    parser.add_argument("--ca", help="a file with the certificate authority of the broker")
    args = parser.parse_args()

    inbox = Inbox(args.database, args.rest, args.token, args.simulated)
    client = connect(args, inbox)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    connected = False
    while True:
        if not connected or client.loop(timeout=1) != mqtt.MQTT_ERR_SUCCESS:
            try:
                connected = client.reconnect() == mqtt.MQTT_ERR_SUCCESS
            except OSError as wrong:
                connected = False
                log(f"the broker is not there: {wrong}")
                time.sleep(1)
        if connected and time.monotonic() - inbox.heard > args.quiet:
            inbox.heard = time.monotonic()
            inbox.catch_up()


if __name__ == "__main__":
    main()
