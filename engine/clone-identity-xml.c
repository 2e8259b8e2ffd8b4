/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the guest of a clone gets to know of itself goes through SMBIOS, the one thing that every
 * guest can read before it has a network or a file system, and without an agent:
 *
 * - The serial number of the system is what cloud-init's NoCloud looks for: instance, hostname
 *   and, if there are texts, where they are.
 * - The texts are OEM strings that systemd takes for credentials. It puts those into
 *   /run/credentials/@system/, under names of our choice. With cloud-init's own names for its
 *   files that is a folder which NoCloud can be told to read, so the texts get there with
 *   neither a server nor an image.
 *
 * The instance is the UUID and a hash of the name. Not the UUID alone: one that is renamed gets
 * other MAC addresses, and cloud-init configures the network anew only for a new instance.
 *
 * Texts are in base64: they may be of several lines, which a string of SMBIOS is not, and
 * QEMU's options would need their commas doubled.
 *
 * QEMU makes one structure of all OEM strings, and would take 64 KiB of them. But systemd before
 * 257 reads only the first page of it, and takes what is cut off there for the whole. So what is
 * longer is refused.
 */
#include "engine/clone-identity.h"

#include "common/mem.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <nettle/base64.h>
#include <nettle/sha2.h>

#define CREDENTIAL "io.systemd.credential"
#define SEED_DIR "/run/credentials/@system/"
#define HOSTNAME_LABEL_MAX 63
#define STRUCTURE_MAX 4096
#define STRUCTURE_HEADER 5

/* 40 bits of the name's hash. */
static uint64_t hash_of(const char *name)
{
	uint8_t digest[5];
	struct sha256_ctx ctx;
	uint64_t hash = 0;

	sha256_init(&ctx);
	sha256_update(&ctx, strlen(name), (const uint8_t *)name);
	sha256_digest(&ctx, sizeof(digest), digest);
	for (size_t i = 0; i < sizeof(digest); i++)
		hash = hash << 8 | digest[i];
	return hash;
}

/* 06 is unicast and locally administered, and used by neither libvirt (52, fe) nor Docker (02).
 * The number is added, so no two interfaces of a VM can have the same. */
void clone_mac(const char *name, unsigned number, char ret[MAC_SIZE])
{
	uint64_t hash = hash_of(name) + number;

	snprintf(ret, MAC_SIZE, "06:%02x:%02x:%02x:%02x:%02x", (unsigned)(hash >> 32 & 0xff),
		 (unsigned)(hash >> 24 & 0xff), (unsigned)(hash >> 16 & 0xff),
		 (unsigned)(hash >> 8 & 0xff), (unsigned)(hash & 0xff));
}

/* ---- the hostname ---- */

/* The name of a VM as a label of DNS: what is none of its letters becomes a hyphen. The caller
 * frees it. */
static char *hostname_of(const char *name, const char *uuid)
{
	char label[HOSTNAME_LABEL_MAX + 1];
	size_t n = 0;

	for (; *name && n < HOSTNAME_LABEL_MAX; name++) {
		unsigned char c = *name;

		if (c < 0x80 && isalnum(c))
			label[n++] = tolower(c);
		else if (n > 0 && label[n - 1] != '-')
			label[n++] = '-';
	}
	while (n > 0 && label[n - 1] == '-')
		n--;
	return n > 0 ? xasprintf("%.*s", (int)n, label) : xasprintf("vm-%.8s", uuid);
}

/* ---- entries ---- */

static xmlNode *entry_named(xmlNode *parent, const char *name)
{
	xmlNode *e = xml_child(parent, "entry");

	for (; e; e = xml_next(e, "entry")) {
		cleanup_free char *found = xml_attribute(e, "name");

		if (streq(found, name))
			return e;
	}
	e = xml_add(parent, "entry");
	xml_set_attribute(e, "name", name);
	return e;
}

/* Whether an OEM string is the credential, in either way of writing it. */
static bool is_credential(xmlNode *entry, const char *name)
{
	static const char *const kinds[] = { ":", ".binary:" };
	cleanup_free char *text = xml_text(entry);

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		cleanup_free char *begin = xasprintf(CREDENTIAL "%s%s=", kinds[i], name);

		if (strncmp(text, begin, strlen(begin)) == 0)
			return true;
	}
	return false;
}

static xmlNode *find_credential(xmlNode *strings, const char *name)
{
	xmlNode *e = xml_child(strings, "entry");

	while (e && !is_credential(e, name))
		e = xml_next(e, "entry");
	return e;
}

/* In the place of one that the source has. */
static void set_credential(xmlNode *strings, const char *name, const char *value)
{
	size_t length = strlen(value);
	cleanup_free char *encoded = xcalloc(1, BASE64_ENCODE_RAW_LENGTH(length) + 1);
	cleanup_free char *text = NULL;

	base64_encode_raw(encoded, length, (const uint8_t *)value);
	text = xasprintf(CREDENTIAL ".binary:%s=%s", name, encoded);
	xml_remove(find_credential(strings, name));
	xml_set_text(xml_add(strings, "entry"), text);
}

/* As the guest reads it: each string ends with a zero byte, and all of them with one more. */
static size_t structure_size(xmlNode *strings)
{
	size_t size = STRUCTURE_HEADER + 1;

	for (xmlNode *e = xml_child(strings, "entry"); e; e = xml_next(e, "entry")) {
		cleanup_free char *text = xml_text(e);

		size += strlen(text) + 1;
	}
	return size;
}

static int check_size(xmlNode *strings, struct err *err)
{
	size_t size = structure_size(strings);

	if (size <= STRUCTURE_MAX)
		return 0;
	return err_set(err, EFBIG, "user_data and meta do not fit beside the OEM strings that the VM "
		       "has: that would be %zu bytes, and not every guest reads more than %d", size,
		       STRUCTURE_MAX);
}

/* ---- the tables ---- */

static bool has_smbios(xmlNode *os)
{
	static const char *const archs[] = { "x86_64", "i686", "aarch64" };
	cleanup_free char *arch = xml_attribute(xml_child(os, "type"), "arch");

	for (size_t i = 0; i < sizeof(archs) / sizeof(archs[0]); i++)
		if (streq(arch, archs[i]))
			return true;
	return false;
}

/* There may be one of another type: fwcfg. */
static xmlNode *sysinfo_of(xmlNode *domain)
{
	xmlNode *info = xml_child(domain, "sysinfo");

	for (; info; info = xml_next(info, "sysinfo")) {
		cleanup_free char *type = xml_attribute(info, "type");

		if (streq(type, "smbios"))
			return info;
	}
	return NULL;
}

/* Both are there or none is: cloud-init wants both. */
static bool has_texts(xmlNode *strings)
{
	return find_credential(strings, "user-data");
}

static void name_it(xmlNode *domain, xmlNode *info)
{
	xmlNode *strings = xml_child_or_new(info, "oemStrings");
	xmlNode *system = xml_child_or_new(info, "system");
	cleanup_free char *name = xml_text(xml_child(domain, "name"));
	cleanup_free char *uuid = xml_text(xml_child(domain, "uuid"));
	cleanup_free char *hostname = hostname_of(name, uuid);
	cleanup_free char *serial =
		xasprintf("ds=nocloud;i=%s-%010" PRIx64 ";h=%s%s", uuid, hash_of(name), hostname,
			  has_texts(strings) ? ";s=" SEED_DIR : "");

	xml_set_text(entry_named(system, "serial"), serial);
	/* libvirt wants it to be the domain's. */
	xml_set_text(entry_named(system, "uuid"), uuid);
	set_credential(strings, "system.hostname", hostname);
}

static void set_texts(xmlNode *strings, const char *user_data, const char *meta)
{
	xml_remove(find_credential(strings, "user-data"));
	xml_remove(find_credential(strings, "meta-data"));
	if (!user_data && !meta)
		return;
	set_credential(strings, "user-data", user_data ? user_data : "#cloud-config\n{}\n");
	set_credential(strings, "meta-data", meta ? meta : "{}\n");
}

int clone_identity_set(xmlNode *domain, const char *user_data, const char *meta, struct err *err)
{
	xmlNode *os = xml_child(domain, "os"), *info = sysinfo_of(domain);

	if (!has_smbios(os)) {
		if (!user_data && !meta)
			return 0;
		return err_set(err, EOPNOTSUPP, "user_data and meta cannot reach a VM of this "
			       "architecture: it has no SMBIOS tables");
	}
	xml_set_attribute(xml_child_or_new(os, "smbios"), "mode", "sysinfo");
	if (!info) {
		info = xml_add(domain, "sysinfo");
		xml_set_attribute(info, "type", "smbios");
	}
	set_texts(xml_child_or_new(info, "oemStrings"), user_data, meta);
	name_it(domain, info);
	return user_data || meta ? check_size(xml_child(info, "oemStrings"), err) : 0;
}

void clone_identity_rename(xmlNode *domain)
{
	xmlNode *info = sysinfo_of(domain);

	if (info)
		name_it(domain, info);
}
