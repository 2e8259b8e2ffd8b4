/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The registry on SQLite. One connection in serialized mode behind a mutex of
 * our own: the calls are short, and a transaction must not take in another
 * thread's statements. WAL with synchronous=FULL, so that a commit is one
 * sequential write and one fsync, and is really on disk when it returns. What was
 * found out about images, and can be found out again, is not waited for: the next
 * commit that is takes it along, as the log is one sequence.
 *
 * A second process on the same file would finish and undo the first one's
 * operations; a lock file beside the database keeps it out. The database
 * itself stays open to readers such as the sqlite3 shell.
 *
 * The schema has a version (PRAGMA user_version); a file from a newer kwsfs is
 * refused instead of being misunderstood.
 */
#include "engine/registry-sql.h"

#include "common/mem.h"
#include "common/vec.h"
#include "engine/schema.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <sys/file.h>

#define SCHEMA_VERSION 6

int sql_err(struct registry *r, struct err *err)
{
	int code = sqlite3_errcode(r->db) == SQLITE_FULL ? ENOSPC : EIO;

	return err_set(err, code, "the registry cannot be written: %s", sqlite3_errmsg(r->db));
}

/* ---- statements ---- */

/* Those that nobody uses at the moment, of all registries. Making one takes several times
 * as long as running it, and a listing of a snapshot runs six. */
static struct {
	pthread_mutex_t lock;
	vec_of(sqlite3_stmt *) at;
} idle = { .lock = PTHREAD_MUTEX_INITIALIZER };

void sql_done_with_p(sqlite3_stmt **stmt)
{
	if (!*stmt)
		return;
	sqlite3_reset(*stmt);
	sqlite3_clear_bindings(*stmt);
	LOCK_SCOPE(&idle.lock);

	vec_push(&idle.at, *stmt);
}

/* NULL if there is none. With `sql` NULL, any of them. */
static sqlite3_stmt *take_idle(sqlite3 *db, const char *sql)
{
	LOCK_SCOPE(&idle.lock);

	for (size_t i = 0; i < idle.at.n; i++) {
		sqlite3_stmt *stmt = idle.at.at[i];

		if (sqlite3_db_handle(stmt) != db || (sql && !streq(sqlite3_sql(stmt), sql)))
			continue;
		idle.at.at[i] = idle.at.at[--idle.at.n];
		return stmt;
	}
	return NULL;
}

static void drop_idle(sqlite3 *db)
{
	sqlite3_stmt *stmt;

	while ((stmt = take_idle(db, NULL)))
		sqlite3_finalize(stmt);
	LOCK_SCOPE(&idle.lock);

	if (idle.at.n == 0)
		vec_free(&idle.at);
}

int sql_prepare(struct registry *r, sqlite3_stmt **ret, struct err *err, const char *sql,
		const char *types, ...)
{
	cleanup_stmt sqlite3_stmt *stmt = take_idle(r->db, sql);
	va_list ap;
	int rc;

	if (!stmt && sqlite3_prepare_v3(r->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt, NULL) !=
		     SQLITE_OK)
		return sql_err(r, err);
	rc = SQLITE_OK;
	va_start(ap, types);
	for (int i = 0; types[i] && rc == SQLITE_OK; i++) {
		if (types[i] == 'i') {
			rc = sqlite3_bind_int64(stmt, i + 1, va_arg(ap, int64_t));
		} else if (types[i] == 'd') {
			rc = sqlite3_bind_double(stmt, i + 1, va_arg(ap, double));
		} else if (types[i] == 'b') {
			const void *bytes = va_arg(ap, const void *);

			rc = sqlite3_bind_blob64(stmt, i + 1, bytes, va_arg(ap, size_t),
						 SQLITE_TRANSIENT);
		} else {
			rc = sqlite3_bind_text(stmt, i + 1, va_arg(ap, const char *), -1,
					       SQLITE_TRANSIENT);
		}
	}
	va_end(ap);
	if (rc != SQLITE_OK)
		return sql_err(r, err);
	*ret = steal_pointer(&stmt);
	return 0;
}

int sql_step(struct registry *r, sqlite3_stmt *stmt, struct err *err)
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

char *sql_text(sqlite3_stmt *stmt, int column)
{
	const unsigned char *text = sqlite3_column_text(stmt, column);

	return xstrdup(text ? (const char *)text : "");
}

/* A failure leaves it durable, or lets the next one fail. */
void sql_begin_lazy(struct registry *r)
{
	sqlite3_exec(r->db, "PRAGMA synchronous=NORMAL", NULL, NULL, NULL);
}

void sql_end_lazy(struct registry *r)
{
	sqlite3_exec(r->db, "PRAGMA synchronous=FULL", NULL, NULL, NULL);
}

/* ---- open ---- */

/* What each version did not have yet. */
static const char *const since[SCHEMA_VERSION] = {
	[1] = "DROP TABLE IF EXISTS layout;", /* it knew one size of clusters only */
	[2] = "ALTER TABLE vm ADD COLUMN max_depth INTEGER NOT NULL DEFAULT 0;",
	[3] = "CREATE TABLE policy (vm INTEGER NOT NULL, knob TEXT NOT NULL, value TEXT NOT NULL,"
	      " PRIMARY KEY (vm, knob));"
	      "INSERT INTO policy SELECT id, 'max_depth', max_depth FROM vm WHERE max_depth > 0;"
	      "ALTER TABLE vm DROP COLUMN max_depth;"
	      "ALTER TABLE snapshot ADD COLUMN expires INTEGER NOT NULL DEFAULT 0;",
};

/* `version` 0 is a new file. All or none: an ALTER TABLE cannot be repeated. */
static int bring_up_to_date(struct registry *r, int version, struct err *err)
{
	cleanup_free char *set_version = xasprintf("PRAGMA user_version=%d", SCHEMA_VERSION);
	int rc = sql_execute(r, err, "BEGIN IMMEDIATE", "");

	if (rc < 0)
		return rc;
	for (int v = version; v > 0 && v < SCHEMA_VERSION && rc >= 0; v++)
		if (sqlite3_exec(r->db, since[v], NULL, NULL, NULL) != SQLITE_OK)
			rc = sql_err(r, err);
	if (rc >= 0 && (sqlite3_exec(r->db, SCHEMA_SQL, NULL, NULL, NULL) != SQLITE_OK ||
			sqlite3_exec(r->db, set_version, NULL, NULL, NULL) != SQLITE_OK))
		rc = sql_err(r, err);
	if (rc >= 0)
		rc = sql_execute(r, err, "COMMIT", "");
	if (rc < 0)
		sql_execute(r, NULL, "ROLLBACK", "");
	return rc;
}

static int check_version(struct registry *r, int *ret, struct err *err)
{
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	int version, rc = sql_prepare(r, &stmt, err, "PRAGMA user_version", "");

	if (rc < 0 || (rc = sql_step(r, stmt, err)) < 0)
		return rc;
	version = sqlite3_column_int(stmt, 0);
	if (version > SCHEMA_VERSION)
		return err_set(err, EINVAL, "it was written by a newer kwsfs (schema %d, this one "
			       "knows %d): install that one again", version, SCHEMA_VERSION);
	if (ret)
		*ret = version;
	return 0;
}

/* Devices have other numbers now. registry_tombstones_locate looks for the new ones. */
static int forget_devices(struct registry *r, struct err *err)
{
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = sql_prepare(r, &stmt, err, "SELECT 1 FROM boot WHERE id = ?", "s", boot_id());

	if (rc >= 0)
		rc = sql_step(r, stmt, err);
	if (rc != 0)
		return rc < 0 ? rc : 0;
	rc = sql_execute(r, err, "BEGIN IMMEDIATE", "");
	if (rc < 0)
		return rc;
	rc = sql_execute(r, err, "UPDATE tombstone SET dev = 0", "");
	if (rc >= 0)
		rc = sql_execute(r, err, "DELETE FROM boot", "");
	if (rc >= 0)
		rc = sql_execute(r, err, "INSERT INTO boot (id) VALUES (?)", "s", boot_id());
	if (rc >= 0)
		rc = sql_execute(r, err, "COMMIT", "");
	if (rc < 0)
		sql_execute(r, NULL, "ROLLBACK", "");
	return rc < 0 ? rc : 0;
}

static int set_up(struct registry *r, struct err *err)
{
	int version, rc;

	if (sqlite3_exec(r->db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
				"PRAGMA foreign_keys=ON;", NULL, NULL, NULL) != SQLITE_OK)
		return sql_err(r, err);
	rc = check_version(r, &version, err);
	if (rc < 0)
		return rc;
	return bring_up_to_date(r, version, err);
}

/* The lock, without which nothing is opened. */
static int take_lock(struct registry *r, const char *path, struct err *err)
{
	cleanup_free char *lock_path = xasprintf("%s.lock", path);

	r->lock_fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (r->lock_fd < 0)
		return err_sys(err, errno, "cannot create %s", lock_path);
	if (flock(r->lock_fd, LOCK_EX | LOCK_NB) < 0)
		return err_set(err, EBUSY, "another kwsfs uses the registry %s: end it, or give "
			       "this one a state= folder of its own", path);
	/* What an earlier one has said there is not true any more. */
	return ftruncate(r->lock_fd, 0) < 0 ? err_sys(err, errno, "cannot write %s", lock_path) : 0;
}

static int open_database(struct registry *r, const char *path, int flags, struct err *err)
{
	if (sqlite3_open_v2(path, &r->db, flags | SQLITE_OPEN_FULLMUTEX, NULL) != SQLITE_OK)
		return err_set(err, EIO, "cannot open the registry %s: %s", path,
			       r->db ? sqlite3_errmsg(r->db) : "out of memory");
	sqlite3_busy_timeout(r->db, 5000);
	return 0;
}

static struct registry *registry_new(void)
{
	struct registry *r = xnew(struct registry);

	pthread_mutex_init(&r->lock, NULL);
	r->lock_fd = -1;
	return r;
}

int registry_open(const char *path, struct registry **ret, struct err *err)
{
	struct registry *r = registry_new();
	int rc = take_lock(r, path, err);

	if (rc >= 0)
		rc = open_database(r, path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, err);
	if (rc >= 0 && ((rc = set_up(r, err)) < 0 || (rc = forget_devices(r, err)) < 0))
		err_wrap(err, "cannot use the registry %s", path);
	if (rc < 0) {
		registry_close(r);
		return rc;
	}
	*ret = r;
	return 0;
}

int registry_open_to_look(const char *path, struct registry **ret, struct err *err)
{
	struct registry *r = registry_new();
	cleanup_free char *lock_path = xasprintf("%s.lock", path);
	bool missing = access(path, F_OK) < 0, free_to_take = access(lock_path, F_OK) < 0;
	int rc = missing && free_to_take ? 0 : take_lock(r, path, err);

	if (rc >= 0 && missing)
		rc = open_database(r, ":memory:", SQLITE_OPEN_READWRITE, err);
	else if (rc >= 0)
		rc = open_database(r, path, SQLITE_OPEN_READONLY, err);
	if (rc >= 0)
		rc = missing ? set_up(r, err) : check_version(r, NULL, err);
	if (rc < 0) {
		registry_close(r);
		return rc;
	}
	*ret = r;
	return 0;
}

void registry_say_mountpoint(struct registry *r, const char *mountpoint)
{
	/* It is a help to others only: whoever cannot read it has to be told. */
	if (pwrite(r->lock_fd, mountpoint, strlen(mountpoint), 0) < 0)
		errno = 0;
}

char *registry_mountpoint(const char *path)
{
	cleanup_free char *lock_path = xasprintf("%s.lock", path);
	cleanup_close int fd = open(lock_path, O_RDONLY | O_CLOEXEC);
	char said[PATH_MAX + 1] = "";

	if (fd >= 0 && pread(fd, said, PATH_MAX, 0) < 0)
		said[0] = '\0';
	return xstrdup(said);
}

void registry_close(struct registry *r)
{
	if (!r)
		return;
	drop_idle(r->db);
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

	/* OR IGNORE would use up an id each time. */
	rc = sql_execute(r, err, "INSERT INTO vm (uuid, uid, gid, mode, quiesce)"
			     " SELECT ?1, ?2, ?3, ?4, ?5"
			     " WHERE NOT EXISTS (SELECT 1 FROM vm WHERE uuid = ?1)", "siiis",
		     uuid, (int64_t)defaults->uid, (int64_t)defaults->gid,
		     (int64_t)defaults->mode, quiesce_to_string(defaults->quiesce));
	if (rc < 0)
		return rc;
	rc = sql_prepare(r, &stmt, err, "SELECT id, uid, gid, mode, quiesce FROM vm"
		     " WHERE uuid = ?", "s", uuid);
	if (rc < 0 || (rc = sql_step(r, stmt, err)) < 0)
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

	return sql_execute(r, err, "UPDATE vm SET uid = ?, gid = ?, mode = ?, quiesce = ?"
				   " WHERE id = ?", "iiisi", (int64_t)vm->uid, (int64_t)vm->gid,
			   (int64_t)vm->mode, quiesce_to_string(vm->quiesce), (int64_t)vm->id);
}

/* ---- several at once: all or none ---- */

static int bury(struct registry *r, uint32_t vm_id, const struct tombstone *t, struct err *err)
{
	/* Burying a layer twice, after a crash in between, is burying it once. */
	return sql_execute(r, err, "INSERT INTO tombstone (vm, target, path, format, dev, ino)"
			       " SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE NOT EXISTS"
			       " (SELECT 1 FROM tombstone WHERE vm = ?1 AND dev = ?5 AND ino = ?6)",
		       "isssii", (int64_t)vm_id, t->target, t->file.path, t->file.format,
		       (int64_t)t->file.dev, (int64_t)t->file.ino);
}

static int move_tombstone(struct registry *r, uint32_t vm_id, const struct layer_file *from,
			  const struct layer_file *to, struct err *err)
{
	int rc = sql_execute(r, err, "DELETE FROM tombstone WHERE vm = ? AND dev = ? AND ino = ?",
			 "iii", (int64_t)vm_id, (int64_t)to->dev, (int64_t)to->ino);

	if (rc < 0)
		return rc;
	return sql_execute(r, err, "UPDATE tombstone SET path = ?, format = ?, dev = ?, ino = ?"
			       " WHERE vm = ? AND dev = ? AND ino = ?", "ssiiiii",
		       to->path, to->format, (int64_t)to->dev, (int64_t)to->ino,
		       (int64_t)vm_id, (int64_t)from->dev, (int64_t)from->ino);
}

static int apply(struct registry *r, const struct registry_change *c, struct err *err)
{
	int rc = 0;

	if (c->forget_snapshot)
		rc = sql_execute(r, err, "DELETE FROM snapshot WHERE id = ?", "i",
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

	rc = sql_execute(r, err, "BEGIN IMMEDIATE", "");
	if (rc < 0)
		return rc;
	rc = apply(r, change, err);
	if (rc >= 0)
		rc = sql_execute(r, err, "COMMIT", "");
	if (rc < 0)
		sql_execute(r, NULL, "ROLLBACK", "");
	return rc < 0 ? rc : 0;
}
