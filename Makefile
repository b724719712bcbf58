# flat.c - LLM unlearning in C and CUDA. `make` alone prints this help.
#
#   make flat               build/flat and its CPU engine (build/libflat_cpu.so)
#   make demo               set up, fine-tune a small model, unlearn a part of it, print a table (about 3 minutes)
#   make test               set up, build and run every test;  make test-<name> runs one, as make test-norm
#   make parity             compare with transformers, live (needs Python with torch; the rest comes from PyPI)
#   make deps               install the libraries that are missing, or print the line that does
#   make install            PREFIX=/usr/local DESTDIR=
#   make clean
#
#   Settings: SAN=1 debug build with AddressSanitizer and UBSan (in build-san) · BUILD=dir · MARCH=native · V=1 prints
#             commands
#
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SECONDARY:
MAKEFLAGS += --no-builtin-rules

SAN ?=
BUILD ?= build$(if $(SAN),-san)
PREFIX ?= /usr/local
DESTDIR ?=
MARCH ?= native
CC := $(if $(filter default,$(origin CC)),gcc,$(CC))
AR := ar
Q := $(if $(V),,@)

WARNINGS := -Wall -Wextra -Werror -Wno-missing-field-initializers -Wshadow -Wstrict-prototypes -Wvla
CFLAGS ?= $(if $(SAN),-O1 -g -fno-omit-frame-pointer,-O2 -g)
SANITIZE := $(if $(SAN),-fsanitize=address -fsanitize=undefined -fno-sanitize-recover=all)
HOST_FLAGS := -std=gnu17 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -fPIC $(WARNINGS) $(CFLAGS) $(SANITIZE)
ENGINE_FLAGS := -std=gnu17 -D_GNU_SOURCE -fPIC -fvisibility=hidden -fopenmp -march=$(MARCH) -fno-math-errno \
                -fno-trapping-math $(WARNINGS) \
                $(if $(SAN),$(CFLAGS),-O3 -g) $(SANITIZE)
HOST_LIBS := -lcjson -lpcre2-8 -lutf8proc -lxxhash -ldl -lm
ENGINE_LIBS := -fopenmp -lopenblas -lm -Wl,-z,initfirst

METHODS := $(sort $(patsubst host/loss/methods/%.c,%,$(wildcard host/loss/methods/*.c)))
FAMILIES := $(sort $(patsubst models/%.c,%,$(wildcard models/*.c)))
HOST_SOURCES := $(filter-out host/cli/main.c,$(wildcard host/*/*.c host/*/*/*.c models/*.c))
HOST_OBJECTS := $(HOST_SOURCES:%.c=$(BUILD)/%.o) $(BUILD)/registry.o $(BUILD)/version.o
KERNEL_SOURCES := $(wildcard kernels/*.c)
TESTS := $(sort $(patsubst tests/test_%.c,%,$(wildcard tests/test_*.c)))
TEST_SUPPORT := $(filter-out $(wildcard tests/test_*.c),$(wildcard tests/*.c))
ENGINES := $(BUILD)/libflat_cpu.so $(BUILD)/libflat_cpu64.so

.PHONY: help flat demo test deps install clean arrows test-bin FORCE
help:
	@awk '/^#/ { sub(/^# ?/, ""); print; next } { exit }' Makefile

flat: $(BUILD)/flat $(BUILD)/libflat_cpu.so

$(BUILD)/flat: $(BUILD)/host/cli/main.o $(BUILD)/libhost.a
	@echo "LINK $@"
	$(Q)$(CC) $(SANITIZE) -o $@ $^ $(HOST_LIBS)
$(BUILD)/libhost.a: $(HOST_OBJECTS)
	@rm -f $@
	$(Q)$(AR) rcs $@ $^

$(BUILD)/libflat_cpu.so: $(KERNEL_SOURCES:kernels/%.c=$(BUILD)/cpu/%.o)
	@echo "LINK $@"
	$(Q)$(CC) -shared $(SANITIZE) -o $@ $^ $(ENGINE_LIBS)
$(BUILD)/libflat_cpu64.so: $(KERNEL_SOURCES:kernels/%.c=$(BUILD)/cpu64/%.o)
	@echo "LINK $@"
	$(Q)$(CC) -shared $(SANITIZE) -o $@ $^ $(ENGINE_LIBS)

$(BUILD)/cpu/%.o: kernels/%.c
	@mkdir -p $(@D)
	@echo "CC $@"
	$(Q)$(CC) $(ENGINE_FLAGS) -MMD -MP -c -o $@ $<
$(BUILD)/cpu64/%.o: kernels/%.c
	@mkdir -p $(@D)
	@echo "CC $@"
	$(Q)$(CC) $(ENGINE_FLAGS) -DFLAT_DOUBLE -MMD -MP -c -o $@ $<
$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	@echo "CC $@"
	$(Q)$(CC) $(HOST_FLAGS) -MMD -MP -c -o $@ $<
$(BUILD)/%.o: $(BUILD)/%.c
	@echo "CC $@"
	$(Q)$(CC) $(HOST_FLAGS) -I. -c -o $@ $<

# The lists of families and methods are the files of models/ and host/loss/methods/.
$(BUILD)/registry.c: Makefile $(wildcard models/*.c host/loss/methods/*.c)
	@mkdir -p $(@D)
	@{ echo '#include "host/loss/method.h"'; echo '#include "host/model/family.h"'; \
	   for f in $(FAMILIES); do echo "extern const struct family family_$$f;"; done; \
	   for m in $(METHODS); do echo "extern const struct method method_$$m;"; done; \
	   echo 'const struct family *const families[] = {'; for f in $(FAMILIES); do echo "    &family_$$f,"; done; \
	   echo '    NULL};'; \
	   echo 'const struct method *const methods[] = {'; for m in $(METHODS); do echo "    &method_$$m,"; done; \
	   echo '    NULL};'; } > $@
# Rewritten only when the commit changes, so that nothing is linked again without need.
$(BUILD)/version.c: FORCE
	@mkdir -p $(@D)
	@commit=$$(git describe --always --dirty 2>/dev/null || echo unknown); \
	 printf '#include "host/util/version.h"\nconst char *version_commit(void) { return "%s"; }\n' "$$commit" > $@.new; \
	 cmp -s $@.new $@ && rm $@.new || mv $@.new $@

# Tests: one program a file tests/test_<name>.c.
test-bin: $(TESTS:%=$(BUILD)/tests/test_%) $(BUILD)/flat $(ENGINES)
$(BUILD)/tests/test_%: $(BUILD)/tests/test_%.o $(TEST_SUPPORT:%.c=$(BUILD)/%.o) $(BUILD)/libhost.a
	@echo "LINK $@"
	$(Q)$(CC) $(SANITIZE) -o $@ $^ -lcmocka $(HOST_LIBS)
$(TESTS:%=test-%): test-%: deps
	@$(MAKE) --no-print-directory $(BUILD)/tests/test_$* $(BUILD)/flat $(ENGINES)
	@FLAT_BUILD=$(BUILD) tests/run $(BUILD)/tests/test_$*
test: deps
	@$(MAKE) --no-print-directory test-bin
	@$(MAKE) --no-print-directory arrows
	@FLAT_BUILD=$(BUILD) tests/run $(TESTS:%=$(BUILD)/tests/test_%)

# No include points from a layer to one on its right.
arrows:
	@tools/arrows

# Recomputes the golden models with transformers, compares ours with them, and loads our output folders back there.
PYTHON ?= /usr/bin/python3
PARITY := $(BUILD)/parity
.PHONY: parity
parity: deps $(PARITY)/venv/installed
	@$(MAKE) --no-print-directory $(BUILD)/tests/test_parity $(ENGINES)
	@$(PARITY)/venv/bin/python tests/parity/make_model_golden.py --check
	@rm -rf $(PARITY)/out && mkdir -p $(PARITY)/out
	@FLAT_PARITY_OUT=$(PARITY)/out $(BUILD)/tests/test_parity
	@$(PARITY)/venv/bin/python tests/parity/check_output.py --all $(PARITY)/out
# torch is the system's: Debian's python3-torch or a newer one.
$(PARITY)/venv/installed: tests/parity/requirements-models.txt
	@echo "VENV $(@D)"
	$(Q)$(PYTHON) -m venv --system-site-packages $(@D)
	$(Q)$(@D)/bin/pip install -q -r $<
	@touch $@

demo: deps
	@$(MAKE) --no-print-directory flat
	@FLAT=$(BUILD)/flat configs/demo/run

deps:
	@tools/deps $(CC)

install: flat
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/flat $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	install -m 755 $(BUILD)/flat $(DESTDIR)$(PREFIX)/bin/flat
	install -m 755 $(BUILD)/libflat_cpu.so $(DESTDIR)$(PREFIX)/lib/flat/
	$(BUILD)/flat completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/flat

clean:
	rm -rf build build-san

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
