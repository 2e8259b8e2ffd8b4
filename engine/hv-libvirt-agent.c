/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a guest tells of itself, through its agent. The OS is a question that libvirt knows how to
 * ask. A file it does not: that is read with the agent's own commands, which libvirt passes on.
 *
 * What comes back is the guest's word, and it may be any: nothing here believes a number, or
 * keeps more of it than was asked for. Many agents are told by their distribution to open no
 * files; then the guest has told nothing, which is no failure.
 */
#include "engine/hv-libvirt.h"

#include "common/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <libvirt/libvirt-qemu.h>
#include <nettle/base64.h>

/* Most agents give 4 KiB at a time, unless they are asked for more. */
#define CHUNK 8192
#define CHUNKS_MAX 16 /* in so many answers a file has come, or does not come at all */

static void json_p(struct json_object **o)
{
	json_object_put(*o);
}

#define cleanup_json cleanup(json_p)

/* Whether the agent is there, and has refused what it was told. libvirt has no code for that. */
static bool is_refusal(void)
{
	const virError *e = virGetLastError();

	return e && e->code == VIR_ERR_INTERNAL_ERROR &&
	       strstr(e->message ?: "", "unable to execute QEMU agent command");
}

/* ---- the OS ---- */

static const char *param(virTypedParameterPtr params, int n, const char *name)
{
	const char *text = NULL;

	return virTypedParamsGetString(params, n, name, &text) == 1 ? text : NULL;
}

/* Without the patch level that some have in their full name: "Ubuntu 20.04". */
static char *os_of(virTypedParameterPtr params, int n)
{
	const char *name = param(params, n, "os.name"), *version = param(params, n, "os.version-id");

	if (!name)
		return xstrdup(param(params, n, "os.pretty-name") ?: param(params, n, "os.id"));
	return version ? xasprintf("%s %s", name, version) : xstrdup(name);
}

int hv_libvirt_guest_os(struct hv *hv, const char *uuid, char **ret, struct err *err)
{
	cleanup_conn virConnectPtr c = NULL;
	cleanup_dom virDomainPtr domain = NULL;
	virTypedParameterPtr params = NULL;
	int n = 0, r = hv_libvirt_domain(of(hv), uuid, &c, &domain, err);

	if (r < 0)
		return r;
	(void)virDomainAgentSetResponseTimeout(domain, AGENT_SECONDS, 0);
	if (virDomainGetGuestInfo(domain, VIR_DOMAIN_GUEST_INFO_OS, &params, &n, 0) < 0) {
		if (!is_refusal())
			return hv_libvirt_fail(of(hv), c, err);
		*ret = NULL;
		return 0;
	}
	*ret = os_of(params, n);
	virTypedParamsFree(params, n);
	return 0;
}

/* ---- a file ---- */

/* A file that is open in a guest. */
struct guest_file {
	struct libvirt *l;
	virConnectPtr connection;
	virDomainPtr domain;
	int64_t handle;
};

/* What a command returns. -ENODATA if the agent refuses it; -EBADMSG for what is no answer. */
static int command(const struct guest_file *f, const char *text, struct json_object **ret,
		   struct err *err)
{
	char *answer = virDomainQemuAgentCommand(f->domain, text, AGENT_SECONDS, 0);
	cleanup_json struct json_object *said = NULL;
	struct json_object *value;

	if (!answer)
		return is_refusal() ? err_set(err, ENODATA, "%s", virGetLastErrorMessage())
				    : hv_libvirt_fail(f->l, f->connection, err);
	said = json_tokener_parse(answer);
	free(answer);
	if (!said || !json_object_object_get_ex(said, "return", &value))
		return err_set(err, EBADMSG, "the guest's agent gives no answer to what it was asked");
	*ret = json_object_get(value);
	return 0;
}

static int open_file(struct guest_file *f, const char *path, struct err *err)
{
	cleanup_free char *text = xasprintf("{\"execute\": \"guest-file-open\", \"arguments\": "
					    "{\"path\": \"%s\", \"mode\": \"r\"}}", path);
	cleanup_json struct json_object *handle = NULL;
	int r = command(f, text, &handle, err);

	if (r >= 0)
		f->handle = json_object_get_int64(handle);
	return r;
}

/* It is the guest's handle: what becomes of that is not a matter of ours. */
static void close_file(const struct guest_file *f)
{
	cleanup_free char *text = xasprintf("{\"execute\": \"guest-file-close\", \"arguments\": "
					    "{\"handle\": %" PRId64 "}}", f->handle);
	cleanup_json struct json_object *nothing = NULL;

	(void)command(f, text, &nothing, NULL);
}

/* Decodes base64 behind the *n bytes that are there, of which there is room for `max`. */
static int append(char *to, size_t *n, size_t max, const char *encoded, struct err *err)
{
	size_t length = strlen(encoded), size = BASE64_DECODE_LENGTH(length);
	cleanup_free uint8_t *bytes = xcalloc(1, size + 1);
	struct base64_decode_ctx ctx;

	base64_decode_init(&ctx);
	if (!base64_decode_update(&ctx, &size, bytes, length, encoded) ||
	    !base64_decode_final(&ctx))
		return err_set(err, EBADMSG, "what the guest's agent reads is no base64");
	if (memchr(bytes, '\0', size))
		return err_set(err, EBADMSG, "what the guest's agent reads is no text");
	if (size > max - *n)
		return err_set(err, EFBIG, "the guest's file has more than %zu bytes", max);
	memcpy(to + *n, bytes, size);
	*n += size;
	return 0;
}

/* Reads on. 1 at the end. */
static int read_chunk(const struct guest_file *f, char *to, size_t *n, size_t max, struct err *err)
{
	cleanup_free char *text = xasprintf("{\"execute\": \"guest-file-read\", \"arguments\": "
					    "{\"handle\": %" PRId64 ", \"count\": %d}}", f->handle,
					    CHUNK);
	cleanup_json struct json_object *said = NULL;
	struct json_object *encoded = NULL, *eof = NULL;
	size_t before = *n;
	int r = command(f, text, &said, err);

	if (r < 0)
		return r;
	if (!json_object_object_get_ex(said, "buf-b64", &encoded) ||
	    !json_object_is_type(encoded, json_type_string) ||
	    !json_object_object_get_ex(said, "eof", &eof))
		return err_set(err, EBADMSG, "the guest's agent does not say what it has read");
	r = append(to, n, max, json_object_get_string(encoded), err);
	return r < 0 ? r : json_object_get_boolean(eof) || *n == before;
}

static int read_file(const struct guest_file *f, size_t max, char **ret, struct err *err)
{
	cleanup_free char *text = xcalloc(1, max + 1);
	size_t n = 0;
	int r = 0;

	for (int i = 0; i < CHUNKS_MAX && r == 0; i++)
		r = read_chunk(f, text, &n, max, err);
	if (r == 0)
		return err_set(err, EFBIG, "the guest's agent comes to no end of it");
	if (r > 0)
		*ret = steal_pointer(&text);
	return r < 0 ? r : 0;
}

int hv_libvirt_guest_file(struct hv *hv, const char *uuid, const char *path, size_t max, char **ret,
			  struct err *err)
{
	cleanup_conn virConnectPtr c = NULL;
	cleanup_dom virDomainPtr domain = NULL;
	struct guest_file f = { .l = of(hv) };
	int r = hv_libvirt_domain(f.l, uuid, &c, &domain, err);

	if (r < 0)
		return r;
	f.connection = c;
	f.domain = domain;
	r = open_file(&f, path, err);
	if (r == -ENODATA) {
		*ret = NULL;
		return 0;
	}
	if (r < 0)
		return r;
	r = read_file(&f, max, ret, err);
	close_file(&f);
	return r;
}
