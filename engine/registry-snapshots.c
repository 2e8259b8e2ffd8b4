/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Snapshots, and what was found out about their images. */
#include "engine/registry-sql.h"

#include "common/mem.h"
#include "common/timespec.h"
#include "common/vec.h"

#include <errno.h>

enum consistency sql_consistency(const char *s)
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

	rc = sql_prepare(r, &stmt, err, "SELECT id, name, created_ns, consistency, pinned,"
				    " expires FROM snapshot WHERE vm = ? ORDER BY name", "i", (int64_t)vm_id);
	while (rc >= 0 && (rc = sql_step(r, stmt, err)) > 0) {
		int64_t ns = sqlite3_column_int64(stmt, 2);
		struct registry_snapshot *s = vec_add(&found);

		s->id = sqlite3_column_int(stmt, 0);
		s->name = sql_text(stmt, 1);
		s->created = timespec_from_ns(ns);
		s->consistency = sql_consistency((const char *)sqlite3_column_text(stmt, 3));
		s->pinned = sqlite3_column_int(stmt, 4);
		s->expires = sqlite3_column_int64(stmt, 5);
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
	LAZY_SCOPE(r);
	int rc;

	rc = sql_prepare(r, &stmt, err,
		     "INSERT INTO snapshot (vm, name, created_ns, consistency, pinned, expires, xml)"
		     " VALUES (?, ?, ?, ?, ?, ?, ?)"
		     " ON CONFLICT (vm, name) DO UPDATE SET created_ns = excluded.created_ns,"
		     " consistency = excluded.consistency, pinned = excluded.pinned,"
		     " expires = excluded.expires, xml = excluded.xml RETURNING id", "isisiis",
		     (int64_t)vm_id, s->name, timespec_to_ns(&s->created),
		     consistency_to_string(s->consistency), (int64_t)s->pinned,
		     (int64_t)s->expires, s->xml);
	if (rc < 0 || (rc = sql_step(r, stmt, err)) < 0)
		return rc;
	s->id = sqlite3_column_int(stmt, 0);
	/* The row is written only once the statement has run to its end. */
	rc = sql_step(r, stmt, err);
	return rc < 0 ? rc : 0;
}

int registry_snapshot_rename(struct registry *r, uint32_t id, const char *name, struct err *err)
{
	LOCK_SCOPE(&r->lock);

	return sql_execute(r, err, "UPDATE snapshot SET name = ? WHERE id = ?", "si", name, (int64_t)id);
}

int registry_snapshot_pin(struct registry *r, uint32_t id, bool pinned, struct err *err)
{
	LOCK_SCOPE(&r->lock);

	return sql_execute(r, err, "UPDATE snapshot SET pinned = ? WHERE id = ?", "ii",
		       (int64_t)pinned, (int64_t)id);
}

int registry_snapshot_expire(struct registry *r, uint32_t id, time_t expires, struct err *err)
{
	LOCK_SCOPE(&r->lock);

	return sql_execute(r, err, "UPDATE snapshot SET expires = ? WHERE id = ?", "ii",
			   (int64_t)expires, (int64_t)id);
}

int registry_snapshot_set_xml(struct registry *r, uint32_t id, const char *xml, struct err *err)
{
	LOCK_SCOPE(&r->lock);

	return sql_execute(r, err, "UPDATE snapshot SET xml = ? WHERE id = ? AND xml <> ?", "sis", xml,
		       (int64_t)id, xml);
}

int registry_snapshot_forget(struct registry *r, uint32_t id, struct err *err)
{
	LOCK_SCOPE(&r->lock);

	return sql_execute(r, err, "DELETE FROM snapshot WHERE id = ?", "i", (int64_t)id);
}

int registry_snapshot_xml(struct registry *r, uint32_t id, char **ret, struct err *err)
{
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	LOCK_SCOPE(&r->lock);
	int rc;

	rc = sql_prepare(r, &stmt, err, "SELECT xml FROM snapshot WHERE id = ?", "i", (int64_t)id);
	if (rc < 0 || (rc = sql_step(r, stmt, err)) < 0)
		return rc;
	if (rc == 0)
		return err_set(err, ENOENT, "there is no such snapshot any more");
	*ret = sql_text(stmt, 0);
	return 0;
}

int registry_allocated(struct registry *r, uint32_t snapshot_id, const char *target,
		       uint64_t *ret_size, uint64_t *ret_allocated, struct err *err)
{
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	LOCK_SCOPE(&r->lock);
	int rc;

	rc = sql_prepare(r, &stmt, err, "SELECT size, allocated FROM image"
				    " WHERE snapshot = ? AND target = ?", "is",
		     (int64_t)snapshot_id, target);
	if (rc < 0 || (rc = sql_step(r, stmt, err)) < 0)
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
	LAZY_SCOPE(r);

	/* Only while the snapshot is there: it may have been deleted meanwhile. */
	return sql_execute(r, err, "INSERT OR REPLACE INTO image (snapshot, target, size, allocated)"
			       " SELECT id, ?, ?, ? FROM snapshot WHERE id = ?", "siii",
		       target, (int64_t)size, (int64_t)allocated, (int64_t)snapshot_id);
}

/* ---- images as qcow2 ---- */

int registry_layout(struct registry *r, struct layout *l, void **ret_runs, struct err *err)
{
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	LOCK_SCOPE(&r->lock);
	int64_t ns;
	int rc;

	rc = sql_prepare(r, &stmt, err, "SELECT size, disk_size, cluster, changed_ns,"
				    " length(runs), runs FROM layout WHERE snapshot = ? AND target = ? AND shape = ? AND parent = ? AND backing = ?",
		     "isiis", (int64_t)l->snapshot, l->target, (int64_t)l->shape,
		     (int64_t)l->parent, l->backing);
	if (rc < 0 || (rc = sql_step(r, stmt, err)) < 0)
		return rc;
	if (rc == 0)
		return -ENOENT;
	l->size = sqlite3_column_int64(stmt, 0);
	l->disk_size = sqlite3_column_int64(stmt, 1);
	l->cluster_bits = sqlite3_column_int(stmt, 2);
	ns = sqlite3_column_int64(stmt, 3);
	l->changed = timespec_from_ns(ns);
	l->runs_bytes = sqlite3_column_int64(stmt, 4);
	if (!ret_runs)
		return 0;
	*ret_runs = xcalloc(1, l->runs_bytes + 1);
	if (l->runs_bytes)
		memcpy(*ret_runs, sqlite3_column_blob(stmt, 5), l->runs_bytes);
	return 0;
}

int registry_add_layout(struct registry *r, const struct layout *l, const void *runs,
			struct err *err)
{
	struct timespec now;
	LOCK_SCOPE(&r->lock);
	LAZY_SCOPE(r);

	clock_gettime(CLOCK_REALTIME, &now);
	/* Only while the snapshot is there. rsync compares times to the second: so
	 * another layout is a second younger at least. */
	return sql_execute(r, err, "INSERT INTO layout (snapshot, target, shape, parent, backing, size,"
			       " disk_size, cluster, changed_ns, runs)"
			       " SELECT id, ?, ?, ?, ?, ?, ?, ?, created_ns, ? FROM snapshot WHERE id = ?"
			       " ON CONFLICT (snapshot, target, shape) DO UPDATE SET"
			       " parent = excluded.parent, backing = excluded.backing,"
			       " size = excluded.size, disk_size = excluded.disk_size,"
			       " cluster = excluded.cluster,"
			       " changed_ns = MAX(?, changed_ns + 1000000000), runs = excluded.runs"
			       " WHERE parent <> excluded.parent OR backing <> excluded.backing",
		       "siisiiibii", l->target, (int64_t)l->shape, (int64_t)l->parent, l->backing,
		       (int64_t)l->size, (int64_t)l->disk_size, (int64_t)l->cluster_bits, runs ?: "",
		       l->runs_bytes, (int64_t)l->snapshot, timespec_to_ns(&now));
}

/* ---- partitions ---- */

int registry_partitions(struct registry *r, uint32_t snapshot_id, const char *target,
			struct partition **ret, size_t *ret_n, struct err *err)
{
	vec_of(struct partition) found = { 0 };
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	bool looked = false;
	LOCK_SCOPE(&r->lock);
	int rc;

	rc = sql_prepare(r, &stmt, err, "SELECT number, start, length FROM partition"
				    " WHERE snapshot = ? AND target = ? ORDER BY number", "is",
		     (int64_t)snapshot_id, target);
	while (rc >= 0 && (rc = sql_step(r, stmt, err)) > 0) {
		struct partition p = { sqlite3_column_int(stmt, 0), sqlite3_column_int64(stmt, 1),
				       sqlite3_column_int64(stmt, 2) };

		looked = looked || p.number == 0;
		if (p.number > 0)
			vec_push(&found, p);
	}
	if (rc >= 0 && !looked)
		rc = -ENOENT;
	if (rc < 0) {
		vec_free(&found);
		return rc;
	}
	*ret = found.at;
	*ret_n = found.n;
	return 0;
}

int registry_set_partitions(struct registry *r, uint32_t snapshot_id, const char *target,
			    const struct partition *partitions, size_t n, struct err *err)
{
	static const char insert[] = "INSERT OR REPLACE INTO partition"
				     " (snapshot, target, number, start, length)"
				     " SELECT id, ?, ?, ?, ? FROM snapshot WHERE id = ?";
	LOCK_SCOPE(&r->lock);
	LAZY_SCOPE(r);
	int rc = 0;

	/* The one that says that they are known comes last. */
	for (size_t i = 0; i < n && rc >= 0; i++)
		rc = sql_execute(r, err, insert, "siiii", target, (int64_t)partitions[i].number,
				 (int64_t)partitions[i].start, (int64_t)partitions[i].length,
				 (int64_t)snapshot_id);
	return rc < 0 ? rc : sql_execute(r, err, insert, "siiii", target, (int64_t)0, (int64_t)0,
					 (int64_t)0, (int64_t)snapshot_id);
}
