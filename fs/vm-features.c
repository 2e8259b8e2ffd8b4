/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The features of a VM in recovery/. All that count are shown, and only those that were written by
 * somebody as they are written: who writes back what was read changes nothing, and does not turn
 * what the guest or libvirt said into something that was written.
 */
#include "fs/vm-features.h"

#include "common/mem.h"
#include "fs/core.h"

#include <errno.h>

static const char *const prefixes[] = {
	[FEATURE_WRITTEN] = "", [FEATURE_AGENT] = "# agent: ", [FEATURE_DOMAIN] = "# domain: ",
};

int show_features(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	const struct feature_set *set = &n->vm->features;

	for (enum feature_source s = FEATURE_WRITTEN; s <= FEATURE_DOMAIN; s++)
		for (size_t i = 0; i < set->n; i++)
			if (set->features[i].source == s)
				fprintf(out, "%s%s %s\n", prefixes[s], set->features[i].category,
					set->features[i].value);
	return 0;
}

int store_features(struct fs *fs, const struct node *n, const char *text, engine_done *done,
		   void *opaque, struct err *err)
{
	engine_set_features(fs->e, n->vm->id, text, done, opaque);
	return 0;
}

int show_ask_help(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	fprintf(out, "# write 1 to ask the guest's agent for its OS and for what its "
		"/etc/kwsfs/features says\n");
	return 0;
}

int store_ask(struct fs *fs, const struct node *n, const char *line, engine_done *done,
	      void *opaque, struct err *err)
{
	if (!streq(line, "1"))
		return err_set(err, EINVAL, "write 1 to ask the guest's agent, not '%s'", line);
	engine_ask_features(fs->e, n->vm->id, done, opaque);
	return 0;
}
