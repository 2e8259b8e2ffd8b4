/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/backing.h"

#include "common/cleanup.h"
#include "common/mem.h"
#include "engine/chain-layer.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <string.h>

static void json_p(struct json_object **o)
{
	json_object_put(*o);
}

static int refuse(const char *path, const char *name, struct err *err)
{
	return err_set(err, EOPNOTSUPP, "%s: its backing file '%s' is not named by a path, which "
		       "cannot be read", path, name);
}

/* As QEMU resolves it: against the directory of the file that names it. */
static char *resolve(const char *overlay, const char *name)
{
	const char *slash = strrchr(overlay, '/');

	if (name[0] == '/' || !slash)
		return xstrdup(name);
	return xasprintf("%.*s/%s", (int)(slash - overlay), overlay, name);
}

/* The text at a.b or "a.b", both of which QEMU takes; NULL if there is none. */
static const char *text_of(struct json_object *o, const char *a, const char *b)
{
	cleanup_free char *dotted = xasprintf("%s.%s", a, b);
	struct json_object *inner = NULL, *text = NULL;

	if (!json_object_object_get_ex(o, dotted, &text) &&
	    json_object_object_get_ex(o, a, &inner))
		json_object_object_get_ex(inner, b, &text);
	return json_object_is_type(text, json_type_string) ? json_object_get_string(text) : NULL;
}

static bool is_file_driver(const char *driver)
{
	return !driver || streq(driver, "file") || streq(driver, "host_device");
}

/* {"driver": "qcow2", "file": {"driver": "file", "filename": "/..."}} */
static int backing_of_json(const struct qcow2_header *h, const char *path, char **ret_path,
			   char **ret_format, struct err *err)
{
	cleanup(json_p) struct json_object *o = json_tokener_parse(h->backing_file + 5);
	struct json_object *driver = NULL;
	const char *name, *format;

	if (!json_object_is_type(o, json_type_object))
		return refuse(path, h->backing_file, err);
	name = text_of(o, "file", "filename");
	format = json_object_object_get_ex(o, "driver", &driver) ?
			 json_object_get_string(driver) : h->backing_format;
	if (!name || !is_file_driver(text_of(o, "file", "driver")) ||
	    (h->backing_format && !streq(format, h->backing_format)))
		return refuse(path, h->backing_file, err);
	*ret_path = resolve(path, name);
	*ret_format = xstrdup(format);
	return 0;
}

int backing_of(const struct qcow2_header *h, const char *path, char **ret_path,
	       char **ret_format, struct err *err)
{
	const char *name = h->backing_file;

	if (!name || !name[0]) {
		*ret_path = *ret_format = NULL;
		return 0;
	}
	if (strncmp(name, "json:", 5) == 0)
		return backing_of_json(h, path, ret_path, ret_format, err);
	if (strncmp(name, "file:", 5) == 0)
		name += 5;
	if (name[strcspn(name, ":/")] == ':')
		return refuse(path, name, err);
	*ret_path = resolve(path, name);
	*ret_format = xstrdup(h->backing_format);
	return 0;
}

/* ---- of files that are not open ---- */

static int open_layer_file(const char *path, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? err_sys(err, errno, "cannot open the layer %s", path) : fd;
}

int layer_backing(const char *path, const char *format, char **ret_path, char **ret_format,
		  struct err *err)
{
	cleanup_close int fd = -1;
	struct qcow2_header *h;
	int r;

	if (!streq(format, "qcow2")) {
		*ret_path = *ret_format = NULL;
		return 0;
	}
	fd = open_layer_file(path, err);
	if (fd < 0)
		return fd;
	r = qcow2_header_read(fd, path, &h, err);
	if (r < 0)
		return r;
	r = backing_of(h, path, ret_path, ret_format, err);
	qcow2_header_free(h);
	return r;
}

int layer_virtual_size(const char *path, const char *format, uint64_t *ret, struct err *err)
{
	cleanup_close int fd = open_layer_file(path, err);
	struct qcow2_header *h;
	int r;

	if (fd < 0)
		return fd;
	if (!streq(format, "qcow2"))
		return raw_size(fd, path, ret, err);
	r = qcow2_header_read(fd, path, &h, err);
	if (r < 0)
		return r;
	*ret = h->size;
	qcow2_header_free(h);
	return 0;
}
