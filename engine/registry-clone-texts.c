/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the clones of a snapshot are to be told. */
#include "engine/registry-sql.h"

#include <errno.h>

int registry_clone_text(struct registry *r, uint32_t snapshot_id, enum clone_text which, char **ret,
			struct err *err)
{
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	LOCK_SCOPE(&r->lock);
	int rc = sql_prepare(r, &stmt, err, "SELECT text FROM clone_text WHERE snapshot = ?"
					    " AND which = ?", "ii", (int64_t)snapshot_id,
			     (int64_t)which);

	if (rc < 0 || (rc = sql_step(r, stmt, err)) < 0)
		return rc;
	if (rc == 0)
		return -ENOENT;
	*ret = sql_text(stmt, 0);
	return 0;
}

int registry_set_clone_text(struct registry *r, uint32_t snapshot_id, enum clone_text which,
			    const char *text, struct err *err)
{
	LOCK_SCOPE(&r->lock);

	if (!text)
		return sql_execute(r, err, "DELETE FROM clone_text WHERE snapshot = ? AND which = ?",
				   "ii", (int64_t)snapshot_id, (int64_t)which);
	return sql_execute(r, err, "INSERT INTO clone_text (snapshot, which, text) VALUES (?, ?, ?)"
				   " ON CONFLICT (snapshot, which) DO UPDATE SET text = excluded.text",
			   "iis", (int64_t)snapshot_id, (int64_t)which, text);
}
