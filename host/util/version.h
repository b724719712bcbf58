/* version.h - the program's version and the commit it was built from. */
#ifndef FLAT_UTIL_VERSION_H
#define FLAT_UTIL_VERSION_H
#define FLAT_VERSION "0.1.0"
/* Abbreviated commit, with "-dirty" when the tree had changes; "unknown" outside a checkout. Made by the build. */
const char *version_commit(void);
#endif
