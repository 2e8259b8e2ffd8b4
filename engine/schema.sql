-- SPDX-License-Identifier: GPL-2.0-or-later
-- The registry. AUTOINCREMENT, because ids are inode numbers: they never come back.

CREATE TABLE IF NOT EXISTS vm (
	id        INTEGER PRIMARY KEY AUTOINCREMENT,
	uuid      TEXT NOT NULL UNIQUE,
	uid       INTEGER NOT NULL,
	gid       INTEGER NOT NULL,
	mode      INTEGER NOT NULL,
	quiesce   TEXT NOT NULL,
	max_depth INTEGER NOT NULL DEFAULT 0 -- layers, 0: none of its own
);

CREATE TABLE IF NOT EXISTS snapshot (
	id          INTEGER PRIMARY KEY AUTOINCREMENT,
	vm          INTEGER NOT NULL REFERENCES vm(id),
	name        TEXT NOT NULL,
	created_ns  INTEGER NOT NULL,        -- since the epoch
	consistency TEXT NOT NULL,
	pinned      INTEGER NOT NULL DEFAULT 0,
	xml         TEXT NOT NULL,           -- libvirt's, as last seen
	UNIQUE (vm, name)
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

-- Operations that have begun and not ended.
CREATE TABLE IF NOT EXISTS operation (
	id    INTEGER PRIMARY KEY AUTOINCREMENT,
	vm    INTEGER NOT NULL REFERENCES vm(id),
	kind  TEXT NOT NULL,
	step  TEXT NOT NULL DEFAULT '',      -- the one begun last
	plan  TEXT NOT NULL                  -- JSON
);
