/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which names a snapshot may have: any UTF-8 up to 240 bytes, without `/` and
 * control characters, not beginning with a dot. `latest` and `current` are the
 * tree's own. Those that libvirt could not keep in a file name or in XML are
 * among the refused.
 */
#include "engine/core.h"

#include <errno.h>

/* The length of the UTF-8 sequence at `s`, 0 if it is none (RFC 3629: no
 * overlong forms, no surrogates, nothing above U+10FFFF). *ret is its character. */
static size_t utf8_next(const unsigned char *s, uint32_t *ret)
{
	static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t n = s[0] < 0x80 ? 1 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 :
		   s[0] >= 0xe0 && s[0] < 0xf0 ? 3 : s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : 0;
	uint32_t c = n == 1 ? s[0] : n == 0 ? 0 : s[0] & (0x7f >> n);

	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	if (n == 0 || (n > 1 && c < smallest[n]) || (c >= 0xd800 && c < 0xe000) || c > 0x10ffff)
		return 0;
	*ret = c;
	return n;
}

/* C0, DEL, C1, and the two that XML 1.0 does not know. */
static bool is_control(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xfffe || c == 0xffff;
}

int snapshot_name_check(const char *name, struct err *err)
{
	const unsigned char *p = (const unsigned char *)name;
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
		size_t n = utf8_next(p, &c);

		if (n == 0)
			return err_set(err, EINVAL, "a snapshot's name must be valid UTF-8");
		if (is_control(c) || c == '/')
			return err_set(err, EINVAL, "a snapshot's name may not contain a slash "
				       "or control characters");
		p += n;
	}
	return 0;
}
