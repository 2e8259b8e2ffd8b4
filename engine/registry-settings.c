/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What somebody has set that is about no VM. */
#include "engine/registry-sql.h"

int registry_setting(struct registry *r, const char *name, char **ret, struct err *err)
{
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	LOCK_SCOPE(&r->lock);
	int rc = sql_prepare(r, &stmt, err, "SELECT value FROM setting WHERE name = ?", "s", name);

	if (rc < 0 || (rc = sql_step(r, stmt, err)) < 0)
		return rc;
	*ret = rc > 0 ? sql_text(stmt, 0) : NULL;
	return 0;
}

int registry_set_setting(struct registry *r, const char *name, const char *value, struct err *err)
{
	LOCK_SCOPE(&r->lock);

	if (!value)
		return sql_execute(r, err, "DELETE FROM setting WHERE name = ?", "s", name);
	return sql_execute(r, err, "INSERT INTO setting (name, value) VALUES (?, ?)"
				   " ON CONFLICT (name) DO UPDATE SET value = excluded.value", "ss",
			   name, value);
}
