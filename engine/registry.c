/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The registry on SQLite. One connection in serialized mode behind a mutex of
 * our own: the calls are short, and a transaction must not take in another
 * thread's statements. WAL with synchronous=FULL, so that a commit is one
 * sequential write and one fsync, and is really on disk when it returns.
 *
 * A second process on the same file would finish and undo the first one's
 * operations; a lock file beside the database keeps it out. The database
 * itself stays open to readers such as the sqlite3 shell.
 *
 * The schema has a version (PRAGMA user_version); a file from a newer kwsfs is
 * refused instead of being misunderstood.
 */
#include "engine/registry.h"

#include "common/cleanup.h"
#include "common/mem.h"
#include "common/vec.h"
#include "engine/schema.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <sys/file.h>

#define SCHEMA_VERSION 1
#define NSEC_PER_SEC 1000000000LL

struct registry {
	pthread_mutex_t lock;
	sqlite3 *db;
	int lock_fd;
};

static void finalize_p(sqlite3_stmt **stmt)
{
	sqlite3_finalize(*stmt);
}

#define cleanup_stmt cleanup(finalize_p)

static int sql_err(struct registry *r, struct err *err)
{
	int code = sqlite3_errcode(r->db) == SQLITE_FULL ? ENOSPC : EIO;

	return err_set(err, code, "the registry cannot be written: %s", sqlite3_errmsg(r->db));
}

/* Prepares a statement and binds its parameters: 'i' an int64_t, 's' a text. */
static int prepare(struct registry *r, sqlite3_stmt **ret, struct err *err, const char *sql,
		   const char *types, ...)
{
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	va_list ap;
	int rc;

	if (sqlite3_prepare_v2(r->db, sql, -1, &stmt, NULL) != SQLITE_OK)
		return sql_err(r, err);
	rc = SQLITE_OK;
	va_start(ap, types);
	for (int i = 0; types[i] && rc == SQLITE_OK; i++) {
		if (types[i] == 'i')
			rc = sqlite3_bind_int64(stmt, i + 1, va_arg(ap, int64_t));
		else
			rc = sqlite3_bind_text(stmt, i + 1, va_arg(ap, const char *), -1,
					       SQLITE_TRANSIENT);
	}
	va_end(ap);
	if (rc != SQLITE_OK)
		return sql_err(r, err);
	*ret = steal_pointer(&stmt);
	return 0;
}

/* 1 with a row, 0 at the end. */
static int step(struct registry *r, sqlite3_stmt *stmt, struct err *err)
{
	switch (sqlite3_step(stmt)) {
	case SQLITE_ROW:
		return 1;
	case SQLITE_DONE:
		return 0;
	default:
		return sql_err(r, err);
	}
}

/* A statement that gives no rows. */
#define execute(r, err, sql, types, ...)                                              \
	({                                                                            \
		cleanup_stmt sqlite3_stmt *execute_ = NULL;                           \
		int r_ = prepare(r, &execute_, err, sql, types __VA_OPT__(,) __VA_ARGS__); \
		r_ < 0 ? r_ : step(r, execute_, err);                                 \
	})

static char *column_text(sqlite3_stmt *stmt, int i)
{
	const unsigned char *text = sqlite3_column_text(stmt, i);

	return xstrdup(text ? (const char *)text : "");
}

/* ---- open ---- */

static int set_up(struct registry *r, struct err *err)
{
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	int version, rc;

	if (sqlite3_exec(r->db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
				"PRAGMA foreign_keys=ON;", NULL, NULL, NULL) != SQLITE_OK)
		return sql_err(r, err);
	rc = prepare(r, &stmt, err, "PRAGMA user_version", "");
	if (rc < 0 || (rc = step(r, stmt, err)) < 0)
		return rc;
	version = sqlite3_column_int(stmt, 0);
	if (version > SCHEMA_VERSION)
		return err_set(err, EINVAL, "it was written by a newer kwsfs (schema %d, this one "
			       "knows %d): install that one again", version, SCHEMA_VERSION);
	finalize_p(&stmt);
	stmt = NULL;
	if (sqlite3_exec(r->db, SCHEMA_SQL, NULL, NULL, NULL) != SQLITE_OK ||
	    sqlite3_exec(r->db, "PRAGMA user_version=1", NULL, NULL, NULL) != SQLITE_OK)
		return sql_err(r, err);
	return 0;
}

int registry_open(const char *path, struct registry **ret, struct err *err)
{
	cleanup_free char *lock_path = xasprintf("%s.lock", path);
	struct registry *r = xnew(struct registry);
	int rc;

	pthread_mutex_init(&r->lock, NULL);
	r->lock_fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (r->lock_fd < 0) {
		rc = err_sys(err, errno, "cannot create %s", lock_path);
		goto fail;
	}
	if (flock(r->lock_fd, LOCK_EX | LOCK_NB) < 0) {
		rc = err_set(err, EBUSY, "another kwsfs uses the registry %s: end it, or give "
			     "this one a state= folder of its own", path);
		goto fail;
	}
	if (sqlite3_open_v2(path, &r->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE |
			    SQLITE_OPEN_FULLMUTEX, NULL) != SQLITE_OK) {
		rc = err_set(err, EIO, "cannot open the registry %s: %s", path,
			     r->db ? sqlite3_errmsg(r->db) : "out of memory");
		goto fail;
	}
	sqlite3_busy_timeout(r->db, 5000);
	rc = set_up(r, err);
	if (rc < 0) {
		err_wrap(err, "cannot use the registry %s", path);
		goto fail;
	}
	*ret = r;
	return 0;
fail:
	registry_close(r);
	return rc;
}

void registry_close(struct registry *r)
{
	if (!r)
		return;
	sqlite3_close(r->db);
	if (r->lock_fd >= 0)
		close(r->lock_fd);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

/* ---- VMs ---- */

int registry_vm(struct registry *r, const char *uuid, const struct registry_vm *defaults,
		struct registry_vm *ret, struct err *err)
{
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	LOCK_SCOPE(&r->lock);
	int rc;

	rc = execute(r, err, "INSERT OR IGNORE INTO vm (uuid, uid, gid, mode, quiesce)"
			     " VALUES (?, ?, ?, ?, ?)", "siiis",
		     uuid, (int64_t)defaults->uid, (int64_t)defaults->gid,
		     (int64_t)defaults->mode, quiesce_to_string(defaults->quiesce));
	if (rc < 0)
		return rc;
	rc = prepare(r, &stmt, err, "SELECT id, uid, gid, mode, quiesce FROM vm WHERE uuid = ?",
		     "s", uuid);
	if (rc < 0 || (rc = step(r, stmt, err)) < 0)
		return rc;
	*ret = (struct registry_vm){
		.id = sqlite3_column_int(stmt, 0),
		.uid = sqlite3_column_int64(stmt, 1),
		.gid = sqlite3_column_int64(stmt, 2),
		.mode = sqlite3_column_int(stmt, 3),
	};
	quiesce_from_string((const char *)sqlite3_column_text(stmt, 4), &ret->quiesce);
	return 0;
}

int registry_vm_update(struct registry *r, const struct registry_vm *vm, struct err *err)
{
	LOCK_SCOPE(&r->lock);

	return execute(r, err, "UPDATE vm SET uid = ?, gid = ?, mode = ?, quiesce = ? WHERE id = ?",
		       "iiisi", (int64_t)vm->uid, (int64_t)vm->gid, (int64_t)vm->mode,
		       quiesce_to_string(vm->quiesce), (int64_t)vm->id);
}

/* ---- snapshots ---- */

static int64_t to_ns(struct timespec t)
{
	return t.tv_sec * NSEC_PER_SEC + t.tv_nsec;
}

static enum consistency consistency_from_string(const char *s)
{
	for (enum consistency c = CONSISTENCY_OFFLINE; c <= CONSISTENCY_CRASH; c++)
		if (streq(s, consistency_to_string(c)))
			return c;
	return CONSISTENCY_UNKNOWN;
}

void registry_snapshots_free(struct registry_snapshot *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(s[i].name);
		free(s[i].xml);
	}
	free(s);
}

int registry_snapshots(struct registry *r, uint32_t vm_id, struct registry_snapshot **ret,
		       size_t *ret_n, struct err *err)
{
	vec_of(struct registry_snapshot) found = { 0 };
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	LOCK_SCOPE(&r->lock);
	int rc;

	rc = prepare(r, &stmt, err, "SELECT id, name, created_ns, consistency, pinned"
				    " FROM snapshot WHERE vm = ?", "i", (int64_t)vm_id);
	while (rc >= 0 && (rc = step(r, stmt, err)) > 0) {
		int64_t ns = sqlite3_column_int64(stmt, 2);
		struct registry_snapshot *s = vec_add(&found);

		s->id = sqlite3_column_int(stmt, 0);
		s->name = column_text(stmt, 1);
		s->created = (struct timespec){ ns / NSEC_PER_SEC, ns % NSEC_PER_SEC };
		s->consistency =
			consistency_from_string((const char *)sqlite3_column_text(stmt, 3));
		s->pinned = sqlite3_column_int(stmt, 4);
	}
	if (rc < 0) {
		registry_snapshots_free(found.at, found.n);
		return rc;
	}
	*ret = found.at;
	*ret_n = found.n;
	return 0;
}

int registry_snapshot_put(struct registry *r, uint32_t vm_id, struct registry_snapshot *s,
			  struct err *err)
{
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	LOCK_SCOPE(&r->lock);
	int rc;

	rc = prepare(r, &stmt, err,
		     "INSERT INTO snapshot (vm, name, created_ns, consistency, pinned, xml)"
		     " VALUES (?, ?, ?, ?, ?, ?)"
		     " ON CONFLICT (vm, name) DO UPDATE SET created_ns = excluded.created_ns,"
		     " consistency = excluded.consistency, pinned = excluded.pinned,"
		     " xml = excluded.xml RETURNING id", "isisis",
		     (int64_t)vm_id, s->name, to_ns(s->created),
		     consistency_to_string(s->consistency), (int64_t)s->pinned, s->xml);
	if (rc < 0 || (rc = step(r, stmt, err)) < 0)
		return rc;
	s->id = sqlite3_column_int(stmt, 0);
	/* The row is durable only once the statement has run to its end. */
	rc = step(r, stmt, err);
	return rc < 0 ? rc : 0;
}

int registry_snapshot_rename(struct registry *r, uint32_t id, const char *name, struct err *err)
{
	LOCK_SCOPE(&r->lock);

	return execute(r, err, "UPDATE snapshot SET name = ? WHERE id = ?", "si", name, (int64_t)id);
}

int registry_snapshot_pin(struct registry *r, uint32_t id, bool pinned, struct err *err)
{
	LOCK_SCOPE(&r->lock);

	return execute(r, err, "UPDATE snapshot SET pinned = ? WHERE id = ?", "ii",
		       (int64_t)pinned, (int64_t)id);
}

int registry_snapshot_set_xml(struct registry *r, uint32_t id, const char *xml, struct err *err)
{
	LOCK_SCOPE(&r->lock);

	return execute(r, err, "UPDATE snapshot SET xml = ? WHERE id = ? AND xml <> ?", "sis", xml,
		       (int64_t)id, xml);
}

int registry_snapshot_forget(struct registry *r, uint32_t id, struct err *err)
{
	LOCK_SCOPE(&r->lock);

	return execute(r, err, "DELETE FROM snapshot WHERE id = ?", "i", (int64_t)id);
}

int registry_snapshot_xml(struct registry *r, uint32_t id, char **ret, struct err *err)
{
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	LOCK_SCOPE(&r->lock);
	int rc;

	rc = prepare(r, &stmt, err, "SELECT xml FROM snapshot WHERE id = ?", "i", (int64_t)id);
	if (rc < 0 || (rc = step(r, stmt, err)) < 0)
		return rc;
	if (rc == 0)
		return err_set(err, ENOENT, "there is no such snapshot any more");
	*ret = column_text(stmt, 0);
	return 0;
}

int registry_allocated(struct registry *r, uint32_t snapshot_id, const char *target,
		       uint64_t *ret_size, uint64_t *ret_allocated, struct err *err)
{
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	LOCK_SCOPE(&r->lock);
	int rc;

	rc = prepare(r, &stmt, err, "SELECT size, allocated FROM image"
				    " WHERE snapshot = ? AND target = ?", "is",
		     (int64_t)snapshot_id, target);
	if (rc < 0 || (rc = step(r, stmt, err)) < 0)
		return rc;
	if (rc == 0)
		return -ENOENT;
	*ret_size = sqlite3_column_int64(stmt, 0);
	*ret_allocated = sqlite3_column_int64(stmt, 1);
	return 0;
}

int registry_set_allocated(struct registry *r, uint32_t snapshot_id, const char *target,
			   uint64_t size, uint64_t allocated, struct err *err)
{
	LOCK_SCOPE(&r->lock);

	/* Only while the snapshot is there: it may have been deleted meanwhile. */
	return execute(r, err, "INSERT OR REPLACE INTO image (snapshot, target, size, allocated)"
			       " SELECT id, ?, ?, ? FROM snapshot WHERE id = ?", "siii",
		       target, (int64_t)size, (int64_t)allocated, (int64_t)snapshot_id);
}

/* ---- tombstones ---- */

void tombstones_free(struct tombstone *t, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(t[i].target);
		layer_file_clear(&t[i].file);
	}
	free(t);
}

int registry_tombstones(struct registry *r, uint32_t vm_id, struct tombstone **ret, size_t *ret_n,
			struct err *err)
{
	vec_of(struct tombstone) found = { 0 };
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	LOCK_SCOPE(&r->lock);
	int rc;

	rc = prepare(r, &stmt, err, "SELECT id, target, path, format, dev, ino"
				    " FROM tombstone WHERE vm = ? ORDER BY id", "i", (int64_t)vm_id);
	while (rc >= 0 && (rc = step(r, stmt, err)) > 0) {
		struct tombstone *t = vec_add(&found);

		t->id = sqlite3_column_int64(stmt, 0);
		t->target = column_text(stmt, 1);
		t->file.path = column_text(stmt, 2);
		t->file.format = column_text(stmt, 3);
		t->file.dev = sqlite3_column_int64(stmt, 4);
		t->file.ino = sqlite3_column_int64(stmt, 5);
	}
	if (rc < 0) {
		tombstones_free(found.at, found.n);
		return rc;
	}
	*ret = found.at;
	*ret_n = found.n;
	return 0;
}

int registry_tombstone_drop(struct registry *r, int64_t id, struct err *err)
{
	LOCK_SCOPE(&r->lock);

	return execute(r, err, "DELETE FROM tombstone WHERE id = ?", "i", id);
}

/* ---- journal ---- */

void journal_ops_free(struct journal_op *ops, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(ops[i].kind);
		free(ops[i].step);
		free(ops[i].plan);
	}
	free(ops);
}

int journal_begin(struct registry *r, uint32_t vm_id, const char *kind, const char *plan,
		  int64_t *ret_id, struct err *err)
{
	LOCK_SCOPE(&r->lock);
	int rc = execute(r, err, "INSERT INTO operation (vm, kind, plan) VALUES (?, ?, ?)", "iss",
			 (int64_t)vm_id, kind, plan);

	if (rc < 0)
		return rc;
	*ret_id = sqlite3_last_insert_rowid(r->db);
	return 0;
}

int journal_step(struct registry *r, int64_t id, const char *name, const char *plan,
		 struct err *err)
{
	LOCK_SCOPE(&r->lock);

	return execute(r, err, "UPDATE operation SET step = ?, plan = ? WHERE id = ?", "ssi", name,
		       plan, id);
}

int journal_end(struct registry *r, int64_t id, struct err *err)
{
	LOCK_SCOPE(&r->lock);

	return execute(r, err, "DELETE FROM operation WHERE id = ?", "i", id);
}

int journal_open_ops(struct registry *r, uint32_t vm_id, struct journal_op **ret, size_t *ret_n,
		     struct err *err)
{
	vec_of(struct journal_op) found = { 0 };
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	LOCK_SCOPE(&r->lock);
	int rc;

	rc = prepare(r, &stmt, err, "SELECT id, kind, step, plan FROM operation"
				    " WHERE vm = ? ORDER BY id", "i", (int64_t)vm_id);
	while (rc >= 0 && (rc = step(r, stmt, err)) > 0) {
		struct journal_op *op = vec_add(&found);

		op->id = sqlite3_column_int64(stmt, 0);
		op->kind = column_text(stmt, 1);
		op->step = column_text(stmt, 2);
		op->plan = column_text(stmt, 3);
	}
	if (rc < 0) {
		journal_ops_free(found.at, found.n);
		return rc;
	}
	*ret = found.at;
	*ret_n = found.n;
	return 0;
}

/* ---- several at once ---- */

static int bury(struct registry *r, uint32_t vm_id, const struct tombstone *t, struct err *err)
{
	/* Burying a layer twice, after a crash in between, is burying it once. */
	return execute(r, err, "INSERT INTO tombstone (vm, target, path, format, dev, ino)"
			       " SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE NOT EXISTS"
			       " (SELECT 1 FROM tombstone WHERE vm = ?1 AND dev = ?5 AND ino = ?6)",
		       "isssii", (int64_t)vm_id, t->target, t->file.path, t->file.format,
		       (int64_t)t->file.dev, (int64_t)t->file.ino);
}

static int move_tombstone(struct registry *r, uint32_t vm_id, const struct layer_file *from,
			  const struct layer_file *to, struct err *err)
{
	int rc = execute(r, err, "DELETE FROM tombstone WHERE vm = ? AND dev = ? AND ino = ?",
			 "iii", (int64_t)vm_id, (int64_t)to->dev, (int64_t)to->ino);

	if (rc < 0)
		return rc;
	return execute(r, err, "UPDATE tombstone SET path = ?, format = ?, dev = ?, ino = ?"
			       " WHERE vm = ? AND dev = ? AND ino = ?", "ssiiiii",
		       to->path, to->format, (int64_t)to->dev, (int64_t)to->ino,
		       (int64_t)vm_id, (int64_t)from->dev, (int64_t)from->ino);
}

static int apply(struct registry *r, const struct registry_change *c, struct err *err)
{
	int rc = 0;

	if (c->forget_snapshot)
		rc = execute(r, err, "DELETE FROM snapshot WHERE id = ?", "i",
			     (int64_t)c->forget_snapshot);
	for (size_t i = 0; rc >= 0 && i < c->n_bury; i++)
		rc = bury(r, c->vm_id, &c->bury[i], err);
	if (rc >= 0 && c->moved_from)
		rc = move_tombstone(r, c->vm_id, c->moved_from, c->moved_to, err);
	return rc;
}

int registry_apply(struct registry *r, const struct registry_change *change, struct err *err)
{
	LOCK_SCOPE(&r->lock);
	int rc;

	rc = execute(r, err, "BEGIN IMMEDIATE", "");
	if (rc < 0)
		return rc;
	rc = apply(r, change, err);
	if (rc >= 0)
		rc = execute(r, err, "COMMIT", "");
	if (rc < 0)
		execute(r, NULL, "ROLLBACK", "");
	return rc < 0 ? rc : 0;
}
