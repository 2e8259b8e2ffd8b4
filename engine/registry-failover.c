/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Failures of VMs, what became of them, and what is kept of a VM for its recovery. */
#include "engine/registry-sql.h"

#include "common/mem.h"
#include "common/timespec.h"
#include "common/vec.h"

/* ---- what is kept of VMs ---- */

static struct failover_vm read_vm(sqlite3_stmt *stmt)
{
	return (struct failover_vm){
		.vm = sqlite3_column_int(stmt, 0),
		.automatic = sqlite3_column_int(stmt, 1),
		.given_up = sqlite3_column_int(stmt, 2),
		.ran = sqlite3_column_int(stmt, 3),
		.replaced = sqlite3_column_int(stmt, 4),
		.line = sqlite3_column_int(stmt, 5),
	};
}

int registry_failover_vms(struct registry *r, struct failover_vm **ret, size_t *ret_n,
			  struct err *err)
{
	vec_of(struct failover_vm) found = { 0 };
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	LOCK_SCOPE(&r->lock);
	int rc = sql_prepare(r, &stmt, err, "SELECT vm, automatic, given_up, ran, replaced, line"
					    " FROM failover_vm ORDER BY vm", "");

	while (rc >= 0 && (rc = sql_step(r, stmt, err)) > 0)
		vec_push(&found, read_vm(stmt));
	if (rc < 0) {
		vec_free(&found);
		return rc;
	}
	*ret = found.at;
	*ret_n = found.n;
	return 0;
}

static int set_vm(struct registry *r, const struct failover_vm *v, struct err *err)
{
	return sql_execute(r, err, "INSERT OR REPLACE INTO failover_vm (vm, automatic, given_up, ran,"
				   " replaced, line) VALUES (?, ?, ?, ?, ?, ?)", "iiiiii",
			   (int64_t)v->vm, (int64_t)v->automatic, (int64_t)v->given_up,
			   (int64_t)v->ran, (int64_t)v->replaced, (int64_t)v->line);
}

int registry_set_failover_vm(struct registry *r, const struct failover_vm *v, bool lazily,
			     struct err *err)
{
	LOCK_SCOPE(&r->lock);

	if (!lazily)
		return set_vm(r, v, err);
	LAZY_SCOPE(r);

	return set_vm(r, v, err);
}

/* ---- failures ---- */

static const char *const state_names[] = {
	[FAILOVER_BEGUN] = "begun", [FAILOVER_DONE] = "done", [FAILOVER_FAILED] = "failed",
};

static const char *const way_names[] = {
	[WAY_NONE] = "", [WAY_RUNS] = "runs", [WAY_START] = "start", [WAY_CLONE] = "clone",
};

#define N(array) (sizeof(array) / sizeof((array)[0]))

const char *failover_way_to_string(enum failover_way way)
{
	return way_names[way];
}

static unsigned number_of(const char *const *names, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (streq(names[i], name))
			return i;
	return 0;
}

void failover_clear(struct failover *f)
{
	free(f->fenced);
	free(f->chosen);
	free(f->replacement);
	free(f->error);
	free(f->passed);
}

void failovers_free(struct failover *f, size_t n)
{
	for (size_t i = 0; i < n; i++)
		failover_clear(&f[i]);
	free(f);
}

static struct failover read_failover(sqlite3_stmt *stmt)
{
	cleanup_free char *state = sql_text(stmt, 6), *way = sql_text(stmt, 9);

	return (struct failover){
		.id = sqlite3_column_int64(stmt, 0),
		.vm = sqlite3_column_int(stmt, 1),
		.line = sqlite3_column_int(stmt, 2),
		.failed = timespec_from_ns(sqlite3_column_int64(stmt, 3)),
		.began = timespec_from_ns(sqlite3_column_int64(stmt, 4)),
		.ordered = sqlite3_column_int(stmt, 5),
		.state = number_of(state_names, N(state_names), state),
		.fenced = sql_text(stmt, 7),
		.chosen = sql_text(stmt, 8),
		.way = number_of(way_names, N(way_names), way),
		.vm_used = sqlite3_column_int(stmt, 10),
		.snapshot = sqlite3_column_int(stmt, 11),
		.similarity = sqlite3_column_double(stmt, 12),
		.replacement = sql_text(stmt, 13),
		.seconds = sqlite3_column_double(stmt, 14),
		.error = sql_text(stmt, 15),
		.passed = sql_text(stmt, 16),
	};
}

#define COLUMNS                                                                                   \
	"SELECT id, vm, line, failed_ns, began_ns, ordered, state, fenced, chosen, way, vm_used," \
	" snapshot, similarity, replacement, seconds, error, passed FROM failover"

int registry_failovers(struct registry *r, uint32_t vm, struct failover **ret, size_t *ret_n,
		       struct err *err)
{
	vec_of(struct failover) found = { 0 };
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc;
	LOCK_SCOPE(&r->lock);

	if (vm)
		rc = sql_prepare(r, &stmt, err, COLUMNS " WHERE vm = ? ORDER BY id DESC", "i",
				 (int64_t)vm);
	else
		rc = sql_prepare(r, &stmt, err, COLUMNS " WHERE state = 'begun' ORDER BY id", "");
	while (rc >= 0 && (rc = sql_step(r, stmt, err)) > 0)
		vec_push(&found, read_failover(stmt));
	if (rc < 0) {
		failovers_free(found.at, found.n);
		return rc;
	}
	*ret = found.at;
	*ret_n = found.n;
	return 0;
}

/* One more is one less of the oldest ones. */
static int make_room(struct registry *r, uint32_t vm, struct err *err)
{
	return sql_execute(r, err, "DELETE FROM failover WHERE vm = ?1 AND state <> 'begun' AND id <="
				   " (SELECT id FROM failover WHERE vm = ?1 ORDER BY id DESC"
				   " LIMIT 1 OFFSET ?2)", "ii", (int64_t)vm,
			   (int64_t)FAILOVERS_KEPT - 1);
}

int registry_failover_begin(struct registry *r, struct failover *f, struct err *err)
{
	int rc;
	LOCK_SCOPE(&r->lock);

	rc = make_room(r, f->vm, err);
	if (rc >= 0)
		rc = sql_execute(r, err, "INSERT INTO failover (vm, line, failed_ns, began_ns, ordered,"
					 " state) VALUES (?, ?, ?, ?, ?, 'begun')", "iiiii",
				 (int64_t)f->vm, (int64_t)f->line, timespec_to_ns(&f->failed),
				 timespec_to_ns(&f->began), (int64_t)f->ordered);
	if (rc >= 0)
		f->id = sqlite3_last_insert_rowid(r->db);
	return rc;
}

int registry_failover_update(struct registry *r, const struct failover *f, struct err *err)
{
	LOCK_SCOPE(&r->lock);

	return sql_execute(r, err, "UPDATE failover SET state = ?, fenced = ?, chosen = ?, way = ?,"
				   " vm_used = ?, snapshot = ?, similarity = ?, replacement = ?,"
				   " seconds = ?, error = ?, passed = ? WHERE id = ?",
			   "ssssiidsdssi", state_names[f->state], f->fenced ?: "", f->chosen ?: "",
			   way_names[f->way], (int64_t)f->vm_used, (int64_t)f->snapshot,
			   f->similarity, f->replacement ?: "", f->seconds, f->error ?: "",
			   f->passed ?: "", f->id);
}

int registry_failover_count(struct registry *r, uint32_t line, const struct timespec *since,
			    size_t *ret_n, struct timespec *ret_last, struct err *err)
{
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc;
	LOCK_SCOPE(&r->lock);

	rc = sql_prepare(r, &stmt, err, "SELECT count(*), max(began_ns) FROM failover WHERE line = ?"
					" AND ordered = 0 AND forgiven = 0 AND began_ns >= ?", "ii",
			 (int64_t)line, timespec_to_ns(since));
	if (rc >= 0)
		rc = sql_step(r, stmt, err);
	if (rc < 0)
		return rc;
	*ret_n = sqlite3_column_int64(stmt, 0);
	*ret_last = timespec_from_ns(sqlite3_column_int64(stmt, 1));
	return 0;
}

int registry_failover_forgive(struct registry *r, uint32_t line, struct err *err)
{
	LOCK_SCOPE(&r->lock);

	return sql_execute(r, err, "UPDATE failover SET forgiven = 1 WHERE line = ? AND forgiven = 0",
			   "i", (int64_t)line);
}
