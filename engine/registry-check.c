/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a check needs to know of the registry as a whole. */
#include "engine/registry-sql.h"

#include "common/mem.h"
#include "common/vec.h"

#include <errno.h>

int registry_vm_find(struct registry *r, const char *uuid, uint32_t *ret_id, struct err *err)
{
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	LOCK_SCOPE(&r->lock);
	int rc = sql_prepare(r, &stmt, err, "SELECT id FROM vm WHERE uuid = ?", "s", uuid);

	if (rc < 0 || (rc = sql_step(r, stmt, err)) < 0)
		return rc;
	if (rc == 0)
		return -ENOENT;
	*ret_id = sqlite3_column_int(stmt, 0);
	return 0;
}

int registry_vms(struct registry *r, struct registry_vm_seen **ret, size_t *ret_n,
		 struct err *err)
{
	vec_of(struct registry_vm_seen) found = { 0 };
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	LOCK_SCOPE(&r->lock);
	int rc = sql_prepare(r, &stmt, err, "SELECT id, uuid FROM vm ORDER BY id", "");

	while (rc >= 0 && (rc = sql_step(r, stmt, err)) > 0) {
		struct registry_vm_seen *vm = vec_add(&found);

		vm->id = sqlite3_column_int(stmt, 0);
		snprintf(vm->uuid, sizeof(vm->uuid), "%s", sqlite3_column_text(stmt, 1));
	}
	if (rc < 0) {
		vec_free(&found);
		return rc;
	}
	*ret = found.at;
	*ret_n = found.n;
	return 0;
}

/* The first row of what a pragma says; "" if it says nothing, or ok. */
static int ask(struct registry *r, const char *pragma, char **ret, struct err *err)
{
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	int rc = sql_prepare(r, &stmt, err, pragma, "");

	if (rc < 0)
		return rc;
	rc = sql_step(r, stmt, NULL);
	*ret = rc < 0 ? xstrdup(sqlite3_errmsg(r->db)) : rc > 0 ? sql_text(stmt, 0) : xstrdup("");
	if (streq(*ret, "ok"))
		(*ret)[0] = '\0';
	return 0;
}

int registry_integrity(struct registry *r, char **ret, struct err *err)
{
	cleanup_free char *table = NULL;
	LOCK_SCOPE(&r->lock);
	int rc = ask(r, "PRAGMA integrity_check(1)", ret, err);

	if (rc < 0 || (*ret)[0])
		return rc;
	rc = ask(r, "PRAGMA foreign_key_check", &table, err);
	if (rc < 0 || !table[0])
		return rc;
	free(*ret);
	*ret = xasprintf("a row of the table %s is about something that is not there", table);
	return 0;
}
