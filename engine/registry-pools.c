/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pools, and how far their spares have come. */
#include "engine/registry-sql.h"

#include "common/mem.h"
#include "common/vec.h"

#include <errno.h>

/* ---- pools ---- */

static struct pool read_pool(sqlite3_stmt *stmt)
{
	cleanup_free char *state = sql_text(stmt, 6);
	struct pool p = {
		.id = sqlite3_column_int(stmt, 0),
		.name = sql_text(stmt, 1),
		.vm = sqlite3_column_int(stmt, 2),
		.snapshot = sqlite3_column_int(stmt, 3),
		.path = sql_text(stmt, 4),
		.settings = { .spare = sqlite3_column_int(stmt, 5),
			      .spare_wait = sqlite3_column_int(stmt, 7) },
	};

	spare_state_from_string(state, &p.settings.spare_state);
	return p;
}

int registry_pools(struct registry *r, struct pool_list **ret, struct err *err)
{
	struct pool_list *list = xnew(struct pool_list);
	vec_of(struct pool) found = { 0 };
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	LOCK_SCOPE(&r->lock);
	int rc = sql_prepare(r, &stmt, err, "SELECT id, name, vm, snapshot, path, spare, spare_state,"
					    " spare_wait FROM pool ORDER BY id", "");

	while (rc >= 0 && (rc = sql_step(r, stmt, err)) > 0)
		vec_push(&found, read_pool(stmt));
	list->refs = 1;
	list->pools = found.at;
	list->n = found.n;
	if (rc < 0) {
		pool_list_unref(list);
		return rc;
	}
	*ret = list;
	return 0;
}

int registry_pool_add(struct registry *r, const struct pool *p, struct err *err)
{
	LOCK_SCOPE(&r->lock);

	return sql_execute(r, err, "INSERT INTO pool (name, vm, snapshot, path, spare, spare_state,"
				   " spare_wait) VALUES (?, ?, ?, ?, ?, ?, ?)", "siisisi", p->name,
			   (int64_t)p->vm, (int64_t)p->snapshot, p->path,
			   (int64_t)p->settings.spare,
			   spare_state_to_string(p->settings.spare_state),
			   (int64_t)p->settings.spare_wait);
}

int registry_pool_rename(struct registry *r, uint32_t id, const char *name, struct err *err)
{
	LOCK_SCOPE(&r->lock);

	return sql_execute(r, err, "UPDATE pool SET name = ? WHERE id = ?", "si", name, (int64_t)id);
}

static int replace(struct registry *r, uint32_t id, uint32_t by, struct err *err)
{
	int rc = sql_execute(r, err, "UPDATE pool SET (vm, snapshot, path) = (SELECT vm, snapshot, path"
				     " FROM pool WHERE id = ?) WHERE id = ?", "ii", (int64_t)by,
			     (int64_t)id);

	return rc < 0 ? rc : sql_execute(r, err, "DELETE FROM pool WHERE id = ?", "i", (int64_t)by);
}

int registry_pool_replace(struct registry *r, uint32_t id, uint32_t by, struct err *err)
{
	LOCK_SCOPE(&r->lock);
	int rc = sql_execute(r, err, "BEGIN IMMEDIATE", "");

	if (rc < 0)
		return rc;
	rc = replace(r, id, by, err);
	if (rc >= 0)
		rc = sql_execute(r, err, "COMMIT", "");
	if (rc < 0)
		sql_execute(r, NULL, "ROLLBACK", "");
	return rc;
}

int registry_pool_set(struct registry *r, uint32_t id, const struct pool_settings *s,
		      struct err *err)
{
	LOCK_SCOPE(&r->lock);

	return sql_execute(r, err, "UPDATE pool SET spare = ?, spare_state = ?, spare_wait = ?"
				   " WHERE id = ?", "isii", (int64_t)s->spare,
			   spare_state_to_string(s->spare_state), (int64_t)s->spare_wait,
			   (int64_t)id);
}

int registry_pool_forget(struct registry *r, uint32_t id, struct err *err)
{
	LOCK_SCOPE(&r->lock);

	return sql_execute(r, err, "DELETE FROM pool WHERE id = ?", "i", (int64_t)id);
}

/* ---- spares ---- */

int registry_spares(struct registry *r,
		    void (*each)(void *opaque, uint32_t clone, const char *stage), void *opaque,
		    struct err *err)
{
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	LOCK_SCOPE(&r->lock);
	int rc = sql_prepare(r, &stmt, err, "SELECT clone, stage FROM spare", "");

	while (rc >= 0 && (rc = sql_step(r, stmt, err)) > 0) {
		cleanup_free char *stage = sql_text(stmt, 1);

		each(opaque, sqlite3_column_int(stmt, 0), stage);
	}
	return rc;
}

int registry_set_spare(struct registry *r, uint32_t clone, const char *stage, struct err *err)
{
	LOCK_SCOPE(&r->lock);

	if (!stage)
		return sql_execute(r, err, "DELETE FROM spare WHERE clone = ?", "i", (int64_t)clone);
	return sql_execute(r, err, "INSERT INTO spare (clone, stage) VALUES (?1, ?2)"
				   " ON CONFLICT (clone) DO UPDATE SET stage = ?2"
				   " WHERE stage <> 'stale'", "is",
			   (int64_t)clone, stage);
}
