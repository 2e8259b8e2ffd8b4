/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/registry-sql.h"

#include "common/mem.h"
#include "common/vec.h"

#include <errno.h>

int registry_checksum_wish(struct registry *r, uint32_t snapshot_id, const char *target,
			   enum disk_shape shape, struct err *err)
{
	LOCK_SCOPE(&r->lock);

	return sql_execute(r, err, "INSERT OR IGNORE INTO checksum (snapshot, target, shape)"
				   " SELECT id, ?, ? FROM snapshot WHERE id = ?", "sii", target,
			   (int64_t)shape, (int64_t)snapshot_id);
}

int registry_checksum_next(struct registry *r, struct checksum_wish *ret, struct err *err)
{
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	LOCK_SCOPE(&r->lock);
	int rc;

	rc = sql_prepare(r, &stmt, err, "SELECT checksum.id, vm, snapshot, target, shape FROM checksum"
					" JOIN snapshot ON snapshot.id = snapshot"
					" WHERE sha256 IS NULL ORDER BY checksum.id LIMIT 1", "");
	if (rc < 0 || (rc = sql_step(r, stmt, err)) < 0)
		return rc;
	if (rc == 0)
		return -ENOENT;
	ret->id = sqlite3_column_int64(stmt, 0);
	ret->vm = sqlite3_column_int(stmt, 1);
	ret->snapshot = sqlite3_column_int(stmt, 2);
	ret->target = sql_text(stmt, 3);
	ret->shape = sqlite3_column_int(stmt, 4);
	return 0;
}

bool registry_checksum_is_wished(struct registry *r, int64_t id)
{
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	LOCK_SCOPE(&r->lock);

	return sql_prepare(r, &stmt, NULL, "SELECT 1 FROM checksum WHERE id = ? AND sha256 IS NULL",
			   "i", id) >= 0 && sql_step(r, stmt, NULL) > 0;
}

int registry_checksum_set(struct registry *r, int64_t id, const char *sha256, struct err *err)
{
	LOCK_SCOPE(&r->lock);

	return sql_execute(r, err, "UPDATE checksum SET sha256 = ? WHERE id = ?", "si", sha256, id);
}

int registry_checksum_give_up(struct registry *r, uint32_t snapshot_id, struct err *err)
{
	LOCK_SCOPE(&r->lock);

	return sql_execute(r, err, "DELETE FROM checksum WHERE snapshot = ? AND sha256 IS NULL", "i",
			   (int64_t)snapshot_id);
}

void checksums_free(struct checksum *c, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(c[i].target);
		free(c[i].sha256);
	}
	free(c);
}

int registry_checksums(struct registry *r, uint32_t snapshot_id, struct checksum **ret,
		       size_t *ret_n, struct err *err)
{
	vec_of(struct checksum) found = { 0 };
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	LOCK_SCOPE(&r->lock);
	int rc;

	rc = sql_prepare(r, &stmt, err, "SELECT target, shape, sha256 FROM checksum"
					" WHERE snapshot = ? ORDER BY id", "i", (int64_t)snapshot_id);
	while (rc >= 0 && (rc = sql_step(r, stmt, err)) > 0) {
		struct checksum *c = vec_add(&found);

		c->target = sql_text(stmt, 0);
		c->shape = sqlite3_column_int(stmt, 1);
		if (sqlite3_column_type(stmt, 2) != SQLITE_NULL)
			c->sha256 = sql_text(stmt, 2);
	}
	if (rc < 0) {
		checksums_free(found.at, found.n);
		return rc;
	}
	*ret = found.at;
	*ret_n = found.n;
	return 0;
}
