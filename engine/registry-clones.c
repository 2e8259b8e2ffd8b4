/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Clones: what each was made from, and for whom. */
#include "engine/registry-sql.h"

#include "common/mem.h"
#include "common/timespec.h"
#include "common/vec.h"

#include <string.h>

static struct clone *read_clone(sqlite3_stmt *stmt)
{
	struct clone *c = xnew(struct clone);
	const char *uuid = (const char *)sqlite3_column_text(stmt, 4);

	c->refs = 1;
	c->id = sqlite3_column_int(stmt, 0);
	c->source = sqlite3_column_int(stmt, 1);
	c->snapshot = sqlite3_column_int(stmt, 2);
	c->vm = sqlite3_column_int(stmt, 3);
	strncpy(c->uuid, uuid ?: "", sizeof(c->uuid) - 1);
	c->name = sql_text(stmt, 5);
	c->pool = sqlite3_column_int(stmt, 6);
	c->spare = sqlite3_column_int(stmt, 7);
	c->created = timespec_from_ns(sqlite3_column_int64(stmt, 8));
	return c;
}

int registry_clones(struct registry *r, struct clone ***ret, size_t *ret_n, struct err *err)
{
	vec_of(struct clone *) found = { 0 };
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc;
	LOCK_SCOPE(&r->lock);

	rc = sql_prepare(r, &stmt, err, "SELECT id, source, snapshot, vm, uuid, name, pool, spare,"
					" created_ns FROM clone ORDER BY id", "");
	while (rc >= 0 && (rc = sql_step(r, stmt, err)) > 0)
		vec_push(&found, read_clone(stmt));
	*ret = found.at;
	*ret_n = found.n;
	return rc;
}

static int find(struct registry *r, uint32_t vm, uint32_t *ret_id, struct err *err)
{
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = sql_prepare(r, &stmt, err, "SELECT id FROM clone WHERE vm = ?", "i", (int64_t)vm);

	if (rc >= 0)
		rc = sql_step(r, stmt, err);
	if (rc > 0)
		*ret_id = sqlite3_column_int(stmt, 0);
	return rc < 0 ? rc : 0;
}

int registry_clone_add(struct registry *r, const struct clone *c, uint32_t *ret_id,
		       struct err *err)
{
	int rc;
	LOCK_SCOPE(&r->lock);

	rc = sql_execute(r, err, "INSERT INTO clone (source, snapshot, vm, uuid, name, pool, spare,"
				 " created_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
				 " ON CONFLICT (vm) DO NOTHING", "iiissiii",
			 (int64_t)c->source, (int64_t)c->snapshot, (int64_t)c->vm, c->uuid, c->name,
			 (int64_t)c->pool, (int64_t)c->spare, timespec_to_ns(&c->created));
	return rc < 0 ? rc : find(r, c->vm, ret_id, err);
}

int registry_clone_update(struct registry *r, const struct clone *c, struct err *err)
{
	LOCK_SCOPE(&r->lock);

	return sql_execute(r, err, "UPDATE clone SET name = ?, pool = ?, spare = ? WHERE id = ?",
			   "siii", c->name, (int64_t)c->pool, (int64_t)c->spare, (int64_t)c->id);
}

int registry_clone_forget(struct registry *r, uint32_t id, struct err *err)
{
	LOCK_SCOPE(&r->lock);

	return sql_execute(r, err, "DELETE FROM clone WHERE id = ?", "i", (int64_t)id);
}
