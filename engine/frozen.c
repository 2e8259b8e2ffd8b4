/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/frozen.h"

#include "common/cleanup.h"
#include "common/mem.h"
#include "engine/backing.h"
#include "engine/chain.h"
#include "engine/files.h"

/* True if `below` is `path`, or lies under it. */
static bool chain_has(const char *path, const char *format, const struct layer_file *below)
{
	cleanup_free char *at = xstrdup(path), *at_format = xstrdup(format);

	for (int depth = 0; at && depth < CHAIN_MAX_LAYERS; depth++) {
		char *next = NULL, *next_format = NULL;
		struct layer_file file;
		bool same;

		if (layer_file_stat(at, "", &file, NULL) < 0)
			return false;
		same = layer_file_same(&file, below);
		layer_file_clear(&file);
		if (same)
			return true;
		if (layer_backing(at, at_format ?: "raw", &next, &next_format, NULL) < 0)
			return false;
		free(at);
		free(at_format);
		at = next;
		at_format = next_format;
	}
	return false;
}

bool is_forgotten_parents(const struct snapshot_disk *was, const struct snapshot_disk *now)
{
	struct layer_file said;
	bool is;

	if (streq(was->path, now->path) || layer_file_stat(now->path, "", &said, NULL) < 0)
		return false;
	is = chain_has(was->path, was->format, &said);
	layer_file_clear(&said);
	return is;
}

struct snapshot_disk frozen_layer(const struct xml_snapshot_disk *d)
{
	struct snapshot_disk ret = { .target = xstrdup(d->target) };
	cleanup_free char *under = NULL, *format = NULL;
	struct layer_file said;

	if (d->overlay && layer_backing(d->overlay, "qcow2", &under, &format, NULL) >= 0 && under &&
	    !streq(under, d->frozen) && layer_file_stat(d->frozen, "", &said, NULL) >= 0) {
		if (chain_has(under, format, &said)) {
			ret.path = steal_pointer(&under);
			ret.format = format ? steal_pointer(&format) : xstrdup("raw");
		}
		layer_file_clear(&said);
	}
	if (!ret.path) {
		ret.path = xstrdup(d->frozen);
		ret.format = xstrdup(d->frozen_format);
	}
	return ret;
}
