/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What was last published of VMs, for the next process to begin with (remembered.h).
 * What a power cut takes back of it is only looked at anew.
 */
#include "engine/registry-sql.h"

#include "common/mem.h"
#include "common/timespec.h"
#include "common/vec.h"

#include <errno.h>

/* ---- disks: target, format and path of each, with the zeroes at their ends ---- */

static char *pack_disks(const struct snapshot *s, size_t *ret_size)
{
	char *packed = NULL;
	FILE *out = open_memstream(&packed, ret_size);

	if (!out)
		return NULL;
	for (size_t i = 0; i < s->n_disks; i++)
		fprintf(out, "%s%c%s%c%s%c", s->disks[i].target, 0, s->disks[i].format, 0,
			s->disks[i].path, 0);
	fclose(out);
	return packed;
}

/* NULL at the end. */
static char *next_text(const char **at, const char *end)
{
	const char *text = *at;
	size_t n = strnlen(text, end - text);

	if (text + n >= end)
		return NULL;
	*at = text + n + 1;
	return xstrdup(text);
}

static void unpack_disks(const char *packed, size_t size, struct snapshot *s)
{
	vec_of(struct snapshot_disk) disks = { 0 };
	const char *at = packed, *end = packed + size;
	char *target;

	while ((target = next_text(&at, end))) {
		struct snapshot_disk *d = vec_add(&disks);

		d->target = target;
		d->format = next_text(&at, end) ?: xstrdup("");
		d->path = next_text(&at, end) ?: xstrdup("");
	}
	s->disks = disks.at;
	s->n_disks = disks.n;
}

/* ---- reading ---- */

void registry_seen_clear(struct registry_seen *seen)
{
	free(seen->sources);
	free(seen->foundations);
}

int registry_seen(struct registry *r, uint32_t vm_id, struct registry_seen *ret, struct err *err)
{
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	LOCK_SCOPE(&r->lock);
	int64_t ns;
	int rc = sql_prepare(r, &stmt, err, "SELECT sources, foundations, changed_ns FROM seen_vm"
					" WHERE vm = ?", "i", (int64_t)vm_id);

	if (rc < 0 || (rc = sql_step(r, stmt, err)) < 0)
		return rc;
	if (rc == 0)
		return -ENOENT;
	ns = sqlite3_column_int64(stmt, 2);
	ret->sources = sql_text(stmt, 0);
	ret->foundations = sql_text(stmt, 1);
	ret->changed = timespec_from_ns(ns);
	return 0;
}

int registry_seen_snapshots(struct registry *r, uint32_t vm_id, struct snapshot **ret, size_t *ret_n,
			    struct err *err)
{
	vec_of(struct snapshot) found = { 0 };
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	LOCK_SCOPE(&r->lock);
	int rc = sql_prepare(r, &stmt, err, "SELECT id, name, created_ns, consistency, pinned, expires,"
					" parent, description, domain_length, disks FROM snapshot"
					" JOIN seen_snapshot ON snapshot = id WHERE vm = ?"
					" ORDER BY created_ns, id", "i", (int64_t)vm_id);

	while (rc >= 0 && (rc = sql_step(r, stmt, err)) > 0) {
		int64_t ns = sqlite3_column_int64(stmt, 2);
		struct snapshot *s = vec_add(&found);

		s->id = sqlite3_column_int(stmt, 0);
		s->name = sql_text(stmt, 1);
		s->created = timespec_from_ns(ns);
		s->consistency = sql_consistency((const char *)sqlite3_column_text(stmt, 3));
		s->pinned = sqlite3_column_int(stmt, 4);
		s->expires = sqlite3_column_int64(stmt, 5);
		s->parent = sqlite3_column_int(stmt, 6);
		s->description = sql_text(stmt, 7);
		s->domain_length = sqlite3_column_int64(stmt, 8);
		unpack_disks(sqlite3_column_blob(stmt, 9), sqlite3_column_bytes(stmt, 9), s);
	}
	*ret = found.at;
	*ret_n = found.n;
	return rc;
}

/* ---- writing ---- */

static int see_snapshot(struct registry *r, const struct snapshot *s, struct err *err)
{
	size_t size = 0;
	cleanup_free char *disks = pack_disks(s, &size);

	if (!disks)
		return err_set(err, ENOMEM, "no memory for what is known of a snapshot");
	/* Only while it is there. */
	return sql_execute(r, err, "INSERT OR REPLACE INTO seen_snapshot"
				   " (snapshot, parent, description, domain_length, disks)"
				   " SELECT id, ?, ?, ?, ? FROM snapshot WHERE id = ?", "isibi",
			   (int64_t)s->parent, s->description, (int64_t)s->domain_length, disks, size,
			   (int64_t)s->id);
}

static int see(struct registry *r, uint32_t vm_id, const struct registry_seen *seen,
	       const struct snapshot *const *snapshots, size_t n, struct err *err)
{
	int64_t changed = timespec_to_ns(&seen->changed);
	int rc = sql_execute(r, err, "INSERT OR REPLACE INTO seen_vm"
				     " (vm, sources, foundations, changed_ns) VALUES (?, ?, ?, ?)",
			     "issi", (int64_t)vm_id, seen->sources, seen->foundations, changed);

	for (size_t i = 0; i < n && rc >= 0; i++)
		rc = see_snapshot(r, snapshots[i], err);
	return rc;
}

int registry_see(struct registry *r, uint32_t vm_id, const struct registry_seen *seen,
		 const struct snapshot *const *snapshots, size_t n, bool lazily, struct err *err)
{
	LOCK_SCOPE(&r->lock);
	cleanup(sql_end_lazy_p) struct registry *lazy = lazily ? r : NULL;
	int rc;

	if (lazily)
		sql_begin_lazy(r);
	rc = sql_execute(r, err, "BEGIN IMMEDIATE", "");
	if (rc < 0)
		return rc;
	rc = see(r, vm_id, seen, snapshots, n, err);
	if (rc >= 0)
		rc = sql_execute(r, err, "COMMIT", "");
	if (rc < 0)
		sql_execute(r, NULL, "ROLLBACK", "");
	return rc < 0 ? rc : 0;
}
