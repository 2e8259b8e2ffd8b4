/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Groups of VMs and their snapshots. A row of group_snapshot is where the VMs of a
 * group agree: see group-take.c. A part goes with its snapshot, by itself; a group snapshot
 * goes when the last of its parts has.
 */
#include "engine/registry-sql.h"

#include "common/mem.h"
#include "common/timespec.h"
#include "common/vec.h"
#include "engine/groups.h"

/* ---- reading ---- */

static int read_members(struct registry *r, struct vm_group *g, struct err *err)
{
	vec_of(struct group_member) found = { 0 };
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = sql_prepare(r, &stmt, err, "SELECT id, name, vm FROM group_member"
					    " WHERE vm_group = ? ORDER BY vm", "i", (int64_t)g->id);

	while (rc >= 0 && (rc = sql_step(r, stmt, err)) > 0)
		vec_push(&found, ((struct group_member){ .id = sqlite3_column_int(stmt, 0),
							 .name = sql_text(stmt, 1),
							 .vm = sqlite3_column_int(stmt, 2) }));
	g->members = found.at;
	g->n_members = found.n;
	return rc;
}

static int read_parts(struct registry *r, struct group_snapshot *s, struct err *err)
{
	vec_of(struct group_part) found = { 0 };
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = sql_prepare(r, &stmt, err, "SELECT number, name, vm, snapshot FROM group_part"
					    " WHERE group_snapshot = ? AND snapshot NOT NULL"
					    " ORDER BY number", "i", (int64_t)s->id);

	while (rc >= 0 && (rc = sql_step(r, stmt, err)) > 0)
		vec_push(&found, ((struct group_part){ .number = sqlite3_column_int(stmt, 0),
						       .name = sql_text(stmt, 1),
						       .vm = sqlite3_column_int(stmt, 2),
						       .snapshot = sqlite3_column_int(stmt, 3) }));
	s->parts = found.at;
	s->n_parts = found.n;
	return rc;
}

static int read_snapshots(struct registry *r, struct vm_group *g, struct err *err)
{
	vec_of(struct group_snapshot) found = { 0 };
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = sql_prepare(r, &stmt, err, "SELECT id, name, created_ns FROM group_snapshot"
					    " WHERE vm_group = ? AND agreed ORDER BY id", "i",
			     (int64_t)g->id);

	while (rc >= 0 && (rc = sql_step(r, stmt, err)) > 0) {
		struct group_snapshot *s = vec_add(&found);
		int64_t ns = sqlite3_column_int64(stmt, 2);

		s->id = sqlite3_column_int(stmt, 0);
		s->name = sql_text(stmt, 1);
		s->created = timespec_from_ns(ns);
	}
	for (size_t i = 0; rc >= 0 && i < found.n; i++)
		rc = read_parts(r, &found.at[i], err);
	g->snapshots = found.at;
	g->n_snapshots = found.n;
	return rc;
}

static int read_groups(struct registry *r, struct group_list *list, struct err *err)
{
	vec_of(struct vm_group) found = { 0 };
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = sql_prepare(r, &stmt, err, "SELECT id, name FROM vm_group ORDER BY id", "");

	while (rc >= 0 && (rc = sql_step(r, stmt, err)) > 0)
		vec_push(&found, ((struct vm_group){ .id = sqlite3_column_int(stmt, 0),
						  .name = sql_text(stmt, 1) }));
	list->groups = found.at;
	list->n = found.n;
	for (size_t i = 0; rc >= 0 && i < list->n; i++) {
		rc = read_members(r, &list->groups[i], err);
		if (rc >= 0)
			rc = read_snapshots(r, &list->groups[i], err);
	}
	return rc;
}

int registry_groups(struct registry *r, struct group_list **ret, struct err *err)
{
	struct group_list *list = xnew(struct group_list);
	LOCK_SCOPE(&r->lock);
	int rc;

	list->refs = 1;
	rc = sql_execute(r, err, "DELETE FROM group_snapshot WHERE agreed AND NOT EXISTS"
				 " (SELECT 1 FROM group_part WHERE group_snapshot = group_snapshot.id)",
			 "");
	if (rc >= 0)
		rc = read_groups(r, list, err);
	if (rc < 0) {
		group_list_unref(list);
		return rc;
	}
	*ret = list;
	return 0;
}

/* ---- groups and members ---- */

int registry_group_make(struct registry *r, const char *name, struct err *err)
{
	LOCK_SCOPE(&r->lock);

	return sql_execute(r, err, "INSERT INTO vm_group (name) VALUES (?)", "s", name);
}

int registry_group_rename(struct registry *r, uint32_t id, const char *name, struct err *err)
{
	LOCK_SCOPE(&r->lock);

	return sql_execute(r, err, "UPDATE vm_group SET name = ? WHERE id = ?", "si", name,
			   (int64_t)id);
}

int registry_group_forget(struct registry *r, uint32_t id, struct err *err)
{
	LOCK_SCOPE(&r->lock);

	return sql_execute(r, err, "DELETE FROM vm_group WHERE id = ?", "i", (int64_t)id);
}

int registry_group_add(struct registry *r, uint32_t id, const char *name, uint32_t vm,
		       struct err *err)
{
	LOCK_SCOPE(&r->lock);

	return sql_execute(r, err, "INSERT INTO group_member (vm_group, name, vm) VALUES (?, ?, ?)",
			   "isi", (int64_t)id, name, (int64_t)vm);
}

int registry_group_take_out(struct registry *r, uint32_t member, struct err *err)
{
	LOCK_SCOPE(&r->lock);

	return sql_execute(r, err, "DELETE FROM group_member WHERE id = ?", "i", (int64_t)member);
}

/* ---- one of their snapshots ---- */

static int begin(struct registry *r, uint32_t id, const char *name,
		 const struct group_member *members, size_t n, int64_t *ret, struct err *err)
{
	int rc = sql_execute(r, err, "INSERT INTO group_snapshot (vm_group, name) VALUES (?, ?)", "is",
			     (int64_t)id, name);

	*ret = sqlite3_last_insert_rowid(r->db);
	for (size_t i = 0; rc >= 0 && i < n; i++)
		rc = sql_execute(r, err, "INSERT INTO group_part (group_snapshot, number, name, vm)"
					 " VALUES (?, ?, ?, ?)", "iisi", *ret, (int64_t)i,
				 members[i].name, (int64_t)members[i].vm);
	return rc;
}

int registry_group_begin(struct registry *r, uint32_t id, const char *name,
			 const struct group_member *members, size_t n, uint32_t *ret,
			 struct err *err)
{
	LOCK_SCOPE(&r->lock);
	int64_t made = 0;
	int rc = sql_execute(r, err, "BEGIN IMMEDIATE", "");

	if (rc < 0)
		return rc;
	rc = begin(r, id, name, members, n, &made, err);
	if (rc >= 0)
		rc = sql_execute(r, err, "COMMIT", "");
	if (rc < 0) {
		sql_execute(r, NULL, "ROLLBACK", "");
		return rc;
	}
	*ret = made;
	return 0;
}

int registry_group_agree(struct registry *r, uint32_t snapshot, struct err *err)
{
	struct timespec now;
	LOCK_SCOPE(&r->lock);

	clock_gettime(CLOCK_REALTIME, &now);
	return sql_execute(r, err, "UPDATE group_snapshot SET agreed = 1, created_ns = ? WHERE id = ?",
			   "ii", timespec_to_ns(&now),
			   (int64_t)snapshot);
}

int registry_group_is_agreed(struct registry *r, uint32_t snapshot, bool *ret, struct err *err)
{
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	LOCK_SCOPE(&r->lock);
	int rc = sql_prepare(r, &stmt, err, "SELECT 1 FROM group_snapshot WHERE id = ? AND agreed",
			     "i", (int64_t)snapshot);

	if (rc >= 0)
		rc = sql_step(r, stmt, err);
	if (rc < 0)
		return rc;
	*ret = rc > 0;
	return 0;
}

int registry_group_record(struct registry *r, uint32_t snapshot, uint32_t vm,
			  uint32_t vm_snapshot, struct err *err)
{
	LOCK_SCOPE(&r->lock);

	if (!vm_snapshot)
		return sql_execute(r, err, "DELETE FROM group_part WHERE group_snapshot = ? AND vm = ?",
				   "ii", (int64_t)snapshot, (int64_t)vm);
	return sql_execute(r, err, "UPDATE group_part SET snapshot = ?"
				   " WHERE group_snapshot = ? AND vm = ?", "iii",
			   (int64_t)vm_snapshot, (int64_t)snapshot, (int64_t)vm);
}

int registry_group_give_up(struct registry *r, uint32_t snapshot, struct err *err)
{
	LOCK_SCOPE(&r->lock);

	return sql_execute(r, err, "DELETE FROM group_snapshot WHERE NOT agreed AND (id = ?1 OR ?1 = 0)",
			   "i", (int64_t)snapshot);
}
