/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is still to be done: tombstones, and operations that have begun. */
#include "engine/registry-sql.h"

#include "common/mem.h"
#include "common/vec.h"

/* ---- tombstones ---- */

void tombstones_free(struct tombstone *t, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(t[i].target);
		layer_file_clear(&t[i].file);
	}
	free(t);
}

/* With device 0 if that was noted in an earlier boot: it has another number now. */
static int read_tombstones(struct registry *r, uint32_t vm_id, struct tombstone **ret,
			   size_t *ret_n, struct err *err)
{
	vec_of(struct tombstone) found = { 0 };
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	LOCK_SCOPE(&r->lock);
	int rc;

	rc = sql_prepare(r, &stmt, err, "SELECT id, target, path, format,"
				    " dev * EXISTS (SELECT 1 FROM boot WHERE id = ?), ino"
				    " FROM tombstone WHERE vm = ? ORDER BY id", "si", boot_id(),
			 (int64_t)vm_id);
	while (rc >= 0 && (rc = sql_step(r, stmt, err)) > 0) {
		struct tombstone *t = vec_add(&found);

		t->id = sqlite3_column_int64(stmt, 0);
		t->target = sql_text(stmt, 1);
		t->file.path = sql_text(stmt, 2);
		t->file.format = sql_text(stmt, 3);
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

int registry_tombstones(struct registry *r, uint32_t vm_id, struct tombstone **ret, size_t *ret_n,
			struct err *err)
{
	int rc = read_tombstones(r, vm_id, ret, ret_n, err);

	for (size_t i = 0; rc >= 0 && i < *ret_n; i++)
		layer_file_find_again(&(*ret)[i].file);
	return rc;
}

int registry_tombstone_drop(struct registry *r, int64_t id, struct err *err)
{
	LOCK_SCOPE(&r->lock);

	return sql_execute(r, err, "DELETE FROM tombstone WHERE id = ?", "i", id);
}

static int set_device(struct registry *r, const struct tombstone *t, struct err *err)
{
	LOCK_SCOPE(&r->lock);

	return sql_execute(r, err, "UPDATE tombstone SET dev = ? WHERE id = ?", "ii",
			   (int64_t)t->file.dev, t->id);
}

int registry_tombstones_locate(struct registry *r, uint32_t vm_id, struct err *err)
{
	struct tombstone *found = NULL;
	size_t n = 0;
	int rc = read_tombstones(r, vm_id, &found, &n, err);

	for (size_t i = 0; i < n && rc >= 0; i++) {
		if (found[i].file.dev != 0)
			continue;
		layer_file_find_again(&found[i].file);
		if (found[i].file.dev != 0)
			rc = set_device(r, &found[i], err);
	}
	tombstones_free(found, n);
	return rc < 0 ? rc : 0;
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

int journal_begin(struct registry *r, uint32_t vm_id, const char *kind, const char *step,
		  const char *plan, int64_t *ret_id, struct err *err)
{
	LOCK_SCOPE(&r->lock);
	int rc = sql_execute(r, err, "INSERT INTO operation (vm, kind, step, plan)"
				     " VALUES (?, ?, ?, ?)", "isss", (int64_t)vm_id, kind, step, plan);

	if (rc < 0)
		return rc;
	*ret_id = sqlite3_last_insert_rowid(r->db);
	return 0;
}

static int set_step(struct registry *r, int64_t id, const char *name, const char *plan,
		    struct err *err)
{
	return sql_execute(r, err, "UPDATE operation SET step = ?, plan = ? WHERE id = ?", "ssi", name,
		       plan, id);
}

int journal_step(struct registry *r, int64_t id, const char *name, const char *plan, bool lazily,
		 struct err *err)
{
	LOCK_SCOPE(&r->lock);

	if (!lazily)
		return set_step(r, id, name, plan, err);
	LAZY_SCOPE(r);
	return set_step(r, id, name, plan, err);
}

int journal_end(struct registry *r, int64_t id, struct err *err)
{
	LOCK_SCOPE(&r->lock);

	return sql_execute(r, err, "DELETE FROM operation WHERE id = ?", "i", id);
}

int journal_open_ops(struct registry *r, uint32_t vm_id, struct journal_op **ret, size_t *ret_n,
		     struct err *err)
{
	vec_of(struct journal_op) found = { 0 };
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	LOCK_SCOPE(&r->lock);
	int rc;

	rc = sql_prepare(r, &stmt, err, "SELECT id, kind, step, plan, vm FROM operation"
				    " WHERE vm = ?1 OR ?1 = 0 ORDER BY id", "i", (int64_t)vm_id);
	while (rc >= 0 && (rc = sql_step(r, stmt, err)) > 0) {
		struct journal_op *op = vec_add(&found);

		op->id = sqlite3_column_int64(stmt, 0);
		op->kind = sql_text(stmt, 1);
		op->step = sql_text(stmt, 2);
		op->plan = sql_text(stmt, 3);
		op->vm = sqlite3_column_int(stmt, 4);
	}
	if (rc < 0) {
		journal_ops_free(found.at, found.n);
		return rc;
	}
	*ret = found.at;
	*ret_n = found.n;
	return 0;
}
