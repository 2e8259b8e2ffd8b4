-- SPDX-License-Identifier: GPL-2.0-or-later
-- The registry. AUTOINCREMENT, because ids are inode numbers: they never come back.

CREATE TABLE IF NOT EXISTS vm (
	id        INTEGER PRIMARY KEY AUTOINCREMENT,
	uuid      TEXT NOT NULL UNIQUE,
	uid       INTEGER NOT NULL,
	gid       INTEGER NOT NULL,
	mode      INTEGER NOT NULL,
	quiesce   TEXT NOT NULL
);

-- What VMs do by themselves: the values of the knobs in .kws/.
CREATE TABLE IF NOT EXISTS policy (
	vm    INTEGER NOT NULL,              -- 0: all that have no value of their own
	knob  TEXT NOT NULL,
	value TEXT NOT NULL,
	PRIMARY KEY (vm, knob)
);

-- When what is done by the calendar was last done.
CREATE TABLE IF NOT EXISTS ran (
	vm   INTEGER NOT NULL,
	what TEXT NOT NULL,
	at   INTEGER NOT NULL,               -- seconds since the epoch
	PRIMARY KEY (vm, what)
);

CREATE TABLE IF NOT EXISTS snapshot (
	id          INTEGER PRIMARY KEY AUTOINCREMENT,
	vm          INTEGER NOT NULL REFERENCES vm(id),
	name        TEXT NOT NULL,
	created_ns  INTEGER NOT NULL,        -- since the epoch
	consistency TEXT NOT NULL,
	pinned      INTEGER NOT NULL DEFAULT 0,
	expires     INTEGER NOT NULL DEFAULT 0, -- seconds since the epoch, 0 by ttl, -1 never
	xml         TEXT NOT NULL,           -- libvirt's, as last seen
	UNIQUE (vm, name)
);

-- What was last published of VMs and their snapshots: remembered.h.
CREATE TABLE IF NOT EXISTS seen_vm (
	vm          INTEGER PRIMARY KEY REFERENCES vm(id),
	sources     TEXT NOT NULL,           -- of its disks
	foundations TEXT NOT NULL,           -- files of this mount that they lie on, a line each
	changed_ns  INTEGER NOT NULL         -- since the epoch
);

CREATE TABLE IF NOT EXISTS seen_snapshot (
	snapshot      INTEGER PRIMARY KEY REFERENCES snapshot(id) ON DELETE CASCADE,
	parent        INTEGER NOT NULL,      -- snapshot, 0: none
	description   TEXT NOT NULL,
	domain_length INTEGER NOT NULL,      -- of the domain XML, bytes
	disks         BLOB NOT NULL          -- see registry-seen.c
);

-- What a walk of an image's map found.
CREATE TABLE IF NOT EXISTS image (
	snapshot  INTEGER NOT NULL REFERENCES snapshot(id) ON DELETE CASCADE,
	target    TEXT NOT NULL,
	size      INTEGER NOT NULL,          -- bytes
	allocated INTEGER NOT NULL,          -- bytes of data
	PRIMARY KEY (snapshot, target)
);

-- What is in an image as a qcow2, alone or on its parent's: found once, and kept,
-- because what lies where in that file depends on it.
CREATE TABLE IF NOT EXISTS layout (
	snapshot   INTEGER NOT NULL REFERENCES snapshot(id) ON DELETE CASCADE,
	target     TEXT NOT NULL,
	shape      INTEGER NOT NULL,         -- enum disk_shape
	parent     INTEGER NOT NULL,         -- snapshot, 0 if it stands alone
	backing    TEXT NOT NULL,            -- name of the file that it lies on, or empty
	size       INTEGER NOT NULL,         -- of the file, bytes
	disk_size  INTEGER NOT NULL,         -- of the image, bytes
	cluster    INTEGER NOT NULL,         -- log2 of the bytes of the file's clusters
	changed_ns INTEGER NOT NULL,         -- since the epoch
	runs       BLOB NOT NULL,            -- see disk-shape.c
	PRIMARY KEY (snapshot, target, shape)
);

-- The partitions of a disk; one with number 0 says that its table was read.
CREATE TABLE IF NOT EXISTS partition (
	snapshot INTEGER NOT NULL REFERENCES snapshot(id) ON DELETE CASCADE,
	target   TEXT NOT NULL,
	number   INTEGER NOT NULL,
	start    INTEGER NOT NULL,           -- bytes
	length   INTEGER NOT NULL,           -- bytes
	PRIMARY KEY (snapshot, target, number)
);

-- Checksums that were asked for.
CREATE TABLE IF NOT EXISTS checksum (
	id       INTEGER PRIMARY KEY,
	snapshot INTEGER NOT NULL REFERENCES snapshot(id) ON DELETE CASCADE,
	target   TEXT NOT NULL,
	shape    INTEGER NOT NULL,           -- enum disk_shape
	sha256   TEXT,                       -- in hexadecimal, NULL until it is made
	UNIQUE (snapshot, target, shape)
);

-- Layers that no snapshot is named for any more, and that wait to be merged.
CREATE TABLE IF NOT EXISTS tombstone (
	id     INTEGER PRIMARY KEY AUTOINCREMENT,
	vm     INTEGER NOT NULL REFERENCES vm(id),
	target TEXT NOT NULL,
	path   TEXT NOT NULL,
	format TEXT NOT NULL,
	dev    INTEGER NOT NULL,             -- 0: noted in an earlier boot
	ino    INTEGER NOT NULL
);

-- The boot of the machine in which the numbers of devices were noted: one row.
CREATE TABLE IF NOT EXISTS boot (
	id TEXT NOT NULL PRIMARY KEY
);

-- Groups of VMs ("group" is a word of SQL's).
CREATE TABLE IF NOT EXISTS vm_group (
	id   INTEGER PRIMARY KEY AUTOINCREMENT,
	name TEXT NOT NULL UNIQUE
);

CREATE TABLE IF NOT EXISTS group_member (
	id       INTEGER PRIMARY KEY AUTOINCREMENT,
	vm_group INTEGER NOT NULL REFERENCES vm_group(id) ON DELETE CASCADE,
	name     TEXT NOT NULL,
	vm       INTEGER NOT NULL REFERENCES vm(id),
	UNIQUE (vm_group, name),
	UNIQUE (vm_group, vm)
);

CREATE TABLE IF NOT EXISTS group_snapshot (
	id         INTEGER PRIMARY KEY AUTOINCREMENT,
	vm_group   INTEGER NOT NULL REFERENCES vm_group(id) ON DELETE CASCADE,
	name       TEXT NOT NULL,
	created_ns INTEGER NOT NULL DEFAULT 0, -- since the epoch
	agreed     INTEGER NOT NULL DEFAULT 0, -- by all of its VMs: until then there is none
	UNIQUE (vm_group, name)
);

-- Its snapshot of one VM.
CREATE TABLE IF NOT EXISTS group_part (
	group_snapshot INTEGER NOT NULL REFERENCES group_snapshot(id) ON DELETE CASCADE,
	number         INTEGER NOT NULL,
	name           TEXT NOT NULL,        -- the member's at that time
	vm             INTEGER NOT NULL REFERENCES vm(id),
	snapshot       INTEGER REFERENCES snapshot(id) ON DELETE CASCADE, -- NULL until it is recorded
	PRIMARY KEY (group_snapshot, number)
);

-- VMs that were made from a snapshot.
CREATE TABLE IF NOT EXISTS clone (
	id         INTEGER PRIMARY KEY AUTOINCREMENT,
	source     INTEGER NOT NULL REFERENCES vm(id),
	snapshot   INTEGER NOT NULL,         -- of the source
	vm         INTEGER NOT NULL UNIQUE REFERENCES vm(id),
	uuid       TEXT NOT NULL,
	name       TEXT NOT NULL,
	pool       INTEGER NOT NULL DEFAULT 0, -- that it was made for
	spare      INTEGER NOT NULL DEFAULT 0, -- it waits there to be taken
	created_ns INTEGER NOT NULL          -- since the epoch
);

-- What the clones of a snapshot are told.
CREATE TABLE IF NOT EXISTS clone_text (
	snapshot INTEGER NOT NULL REFERENCES snapshot(id) ON DELETE CASCADE,
	which    INTEGER NOT NULL,           -- enum clone_text
	text     TEXT NOT NULL,
	PRIMARY KEY (snapshot, which)
);

-- Snapshots that are published for clones to be made from.
CREATE TABLE IF NOT EXISTS pool (
	id          INTEGER PRIMARY KEY AUTOINCREMENT,
	name        TEXT NOT NULL UNIQUE,
	vm          INTEGER NOT NULL REFERENCES vm(id),
	snapshot    INTEGER NOT NULL,        -- of the VM
	path        TEXT NOT NULL,           -- VM/SNAPSHOT, as they were called then
	spare       INTEGER NOT NULL,        -- how many clones wait to be taken
	spare_state TEXT NOT NULL,           -- what they wait as
	spare_wait  INTEGER NOT NULL         -- seconds that one has to boot
);

-- Those of the clones that were started to wait, and what became of them: enum spare_stage.
CREATE TABLE IF NOT EXISTS spare (
	clone INTEGER PRIMARY KEY REFERENCES clone(id) ON DELETE CASCADE,
	stage TEXT NOT NULL
);

-- What somebody has set that is about no VM.
CREATE TABLE IF NOT EXISTS setting (
	name  TEXT PRIMARY KEY,
	value TEXT NOT NULL
);

-- What is kept of a VM for its recovery.
CREATE TABLE IF NOT EXISTS failover_vm (
	vm        INTEGER PRIMARY KEY REFERENCES vm(id),
	automatic INTEGER NOT NULL,          -- it is recovered when it crashes
	given_up  INTEGER NOT NULL,          -- ... no more: it has crashed too often
	ran       INTEGER NOT NULL,          -- it was seen to run, and nobody has shut it off since
	replaced  INTEGER NOT NULL,          -- another one has taken its place since it ran
	line      INTEGER NOT NULL           -- the VM whose place it has, directly or not; 0: its own
);

-- Failures of VMs, and what became of them.
CREATE TABLE IF NOT EXISTS failover (
	id          INTEGER PRIMARY KEY AUTOINCREMENT,
	vm          INTEGER NOT NULL REFERENCES vm(id),
	line        INTEGER NOT NULL,        -- as above, never 0
	failed_ns   INTEGER NOT NULL,        -- since the epoch: when it was seen, or ordered
	began_ns    INTEGER NOT NULL,        -- the same: when it was begun to do something about it
	ordered     INTEGER NOT NULL,        -- by somebody; else by itself
	forgiven    INTEGER NOT NULL DEFAULT 0, -- it does not count any more for how often it crashed
	state       TEXT NOT NULL,           -- enum failover_state
	fenced      TEXT NOT NULL DEFAULT '', -- what it was when it was ended
	chosen      TEXT NOT NULL DEFAULT '', -- the candidate, and:
	way         TEXT NOT NULL DEFAULT '', -- what is done with it: enum failover_way
	vm_used     INTEGER NOT NULL DEFAULT 0, -- that it is, or whose snapshot it is
	snapshot    INTEGER NOT NULL DEFAULT 0, -- that is cloned
	similarity  REAL NOT NULL DEFAULT 0,
	replacement TEXT NOT NULL DEFAULT '', -- a clone's name is noted before that is made
	seconds     REAL NOT NULL DEFAULT 0, -- from failed_ns until that ran
	error       TEXT NOT NULL DEFAULT '', -- why there is none
	passed      TEXT NOT NULL DEFAULT '' -- who was passed over, and why: lines
);

-- Operations that have begun and not ended.
CREATE TABLE IF NOT EXISTS operation (
	id    INTEGER PRIMARY KEY AUTOINCREMENT,
	vm    INTEGER NOT NULL REFERENCES vm(id),
	kind  TEXT NOT NULL,
	step  TEXT NOT NULL DEFAULT '',      -- the one begun last
	plan  TEXT NOT NULL                  -- JSON
);
