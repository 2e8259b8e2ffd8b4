/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What VMs do by themselves: the values of knobs, and when something was last done. */
#include "engine/registry-sql.h"

#include "common/mem.h"

#include <errno.h>

int registry_knobs(struct registry *r, uint32_t vm_id,
		   void (*each)(void *opaque, const char *knob, const char *value), void *opaque,
		   struct err *err)
{
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	LOCK_SCOPE(&r->lock);
	int rc = sql_prepare(r, &stmt, err, "SELECT knob, value FROM policy WHERE vm = ?", "i",
			     (int64_t)vm_id);

	while (rc >= 0 && (rc = sql_step(r, stmt, err)) > 0)
		each(opaque, (const char *)sqlite3_column_text(stmt, 0),
		     (const char *)sqlite3_column_text(stmt, 1));
	return rc;
}

int registry_set_knob(struct registry *r, uint32_t vm_id, const char *knob, const char *value,
		      struct err *err)
{
	LOCK_SCOPE(&r->lock);

	if (!value)
		return sql_execute(r, err, "DELETE FROM policy WHERE vm = ? AND knob = ?", "is",
				   (int64_t)vm_id, knob);
	return sql_execute(r, err, "INSERT INTO policy (vm, knob, value) VALUES (?, ?, ?)"
				   " ON CONFLICT (vm, knob) DO UPDATE SET value = excluded.value",
			   "iss", (int64_t)vm_id, knob, value);
}

int registry_ran(struct registry *r, uint32_t vm_id, const char *what, time_t *ret,
		 struct err *err)
{
	cleanup_stmt sqlite3_stmt *stmt = NULL;
	LOCK_SCOPE(&r->lock);
	int rc = sql_prepare(r, &stmt, err, "SELECT at FROM ran WHERE vm = ? AND what = ?", "is",
			     (int64_t)vm_id, what);

	if (rc < 0 || (rc = sql_step(r, stmt, err)) < 0)
		return rc;
	if (rc == 0)
		return err_set(err, ENOENT, "that never was");
	*ret = sqlite3_column_int64(stmt, 0);
	return 0;
}

int registry_set_ran(struct registry *r, uint32_t vm_id, const char *what, time_t at,
		     struct err *err)
{
	LOCK_SCOPE(&r->lock);

	return sql_execute(r, err, "INSERT INTO ran (vm, what, at) VALUES (?, ?, ?)"
				   " ON CONFLICT (vm, what) DO UPDATE SET at = excluded.at", "isi",
			   (int64_t)vm_id, what, (int64_t)at);
}
