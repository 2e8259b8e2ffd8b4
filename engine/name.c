/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which names a snapshot may have: any UTF-8 up to 240 bytes, without `/` and
 * control characters, not beginning with a dot. `latest` and `current` are the
 * tree's own. Those that libvirt could not keep in a file name or in XML are
 * among the refused.
 */
#include "engine/core.h"

#include "common/utf8.h"

#include <errno.h>

/* C0, DEL, C1, and the two that XML 1.0 does not know. */
static bool is_control(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xfffe || c == 0xffff;
}

int snapshot_name_check(const char *name, struct err *err)
{
	const char *p = name;
	uint32_t c = 0;

	if (strlen(name) > SNAPSHOT_NAME_MAX)
		return err_set(err, ENAMETOOLONG, "a snapshot's name may have %d bytes at most",
			       SNAPSHOT_NAME_MAX);
	if (name[0] == '\0')
		return err_set(err, EINVAL, "a snapshot needs a name");
	if (name[0] == '.')
		return err_set(err, EINVAL, "a snapshot's name may not begin with a dot");
	if (streq(name, "latest") || streq(name, "current"))
		return err_set(err, EINVAL, "'%s' is the name of a link in every VM's folder; "
			       "choose another one", name);
	while (*p) {
		size_t n = utf8_next(p, SIZE_MAX, &c);

		if (n == 0)
			return err_set(err, EINVAL, "a snapshot's name must be valid UTF-8");
		if (is_control(c) || c == '/')
			return err_set(err, EINVAL, "a snapshot's name may not contain a slash "
				       "or control characters");
		p += n;
	}
	return 0;
}
