# flat.c - LLM unlearning in C and CUDA. `make` alone prints this help.
#
#   make flat               build/flat and its engines: CPU, and CUDA where there is nvcc
#   make cuda               the CUDA engine alone (build/libflat_cuda.so) and the compiler's report (build/ptxas.txt)
#   make demo               set up, fine-tune a small model, unlearn a part of it, print a table (about a minute)
#   make test               set up, build and run every test;  make test-<name> runs one, as make test-norm
#   make bench              measure every op on this machine, checked first (about a minute); make bench-<op>, as bench-norm
#   make compare            whole steps against PyTorch (as parity);  make report  benches/results/README.md anew
#   make parity             compare with transformers, live (needs Python with torch; the rest comes from PyPI)
#   make parity-table       print how far every family is from transformers on every engine
#   make deps               install the libraries that are missing, or print the line that does
#   make install            PREFIX=/usr/local DESTDIR=
#   make clean
#
#   Settings: SAN=1 debug build with AddressSanitizer and UBSan (in build-san) · BUILD=dir · MARCH=native · V=1 prints
#             commands · CUDA_ARCHS="80 90a 100" · NVCC= builds without CUDA
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
HOST_LIBS := -pthread -lcjson -lpcre2-8 -lutf8proc -lxxhash -lz -ldl -lm
ENGINE_LIBS := -fopenmp -lopenblas -lm -Wl,-z,initfirst

METHODS := $(sort $(patsubst host/loss/methods/%.c,%,$(wildcard host/loss/methods/*.c)))
FAMILIES := $(sort $(patsubst models/%.c,%,$(wildcard models/*.c)))
HOST_SOURCES := $(filter-out host/cli/main.c,$(wildcard host/*/*.c host/*/*/*.c models/*.c))
HOST_OBJECTS := $(HOST_SOURCES:%.c=$(BUILD)/%.o) $(BUILD)/registry.o $(BUILD)/version.o
KERNEL_SOURCES := $(wildcard kernels/*.c kernels/engine/*.c)
CUDA_SOURCES := $(wildcard kernels/*.cu kernels/engine/*.cu)
TEST_SOURCES := $(wildcard tests/*/test_*.c)
TESTS := $(sort $(patsubst test_%.c,%,$(notdir $(TEST_SOURCES))))
TEST_SUPPORT := $(wildcard tests/support/*.c)
ENGINES := $(BUILD)/libflat_cpu.so $(BUILD)/libflat_cpu64.so $(BUILD)/libflat_emu.so

# CUDA: one object directory for a set of architectures, so that the tests can do with one. PTX of the last for newer.
, := ,
NVCC ?= $(firstword $(shell command -v nvcc) $(wildcard /usr/local/cuda/bin/nvcc))
CUDA_ARCHS ?= 80 90a 100
CUDA_DIR := $(BUILD)/cuda-$(shell echo $(CUDA_ARCHS) | tr ' ' -)
CUDA_OBJECTS := $(patsubst kernels/%.cu,$(CUDA_DIR)/%.o,$(CUDA_SOURCES))
NVCC_FLAGS := -std=c++17 -O3 -lineinfo -Xptxas -v -Werror all-warnings \
              -Xcompiler -fPIC,-fvisibility=hidden,-Wall,-Wextra \
              $(foreach arch,$(CUDA_ARCHS),-gencode=arch=compute_$(arch)$(,)code=sm_$(arch)) \
              $(foreach arch,$(filter-out %a,$(lastword $(CUDA_ARCHS))), \
                  -gencode=arch=compute_$(arch)$(,)code=compute_$(arch))

PYTHON ?= /usr/bin/python3
PARITY := $(BUILD)/parity

# The CUDA engine on the CPU, for the tests.
EMU_FLAVOUR := $(if $(SAN),asan,plain)
include tests/emulation/emulation.mk

.PHONY: help flat cuda demo bench test test-sanitized test-inputs deps install clean layers test-bin FORCE
help:
	@awk '/^#/ { sub(/^# ?/, ""); print; next } { exit }' Makefile

flat: $(BUILD)/flat $(BUILD)/libflat_cpu.so $(if $(NVCC),$(BUILD)/libflat_cuda.so)
cuda: $(BUILD)/libflat_cuda.so

$(BUILD)/flat: $(BUILD)/host/cli/main.o $(BUILD)/libhost.a
	@echo "LINK $@"
	$(Q)$(CC) $(SANITIZE) -o $@ $^ $(HOST_LIBS)
$(BUILD)/libhost.a: $(HOST_OBJECTS)
	@rm -f $@
	$(Q)$(AR) qcs $@ $^

$(BUILD)/libflat_cpu.so: $(KERNEL_SOURCES:kernels/%.c=$(BUILD)/cpu/%.o)
	@echo "LINK $@"
	$(Q)$(CC) -shared $(SANITIZE) -o $@ $^ $(ENGINE_LIBS)
$(BUILD)/libflat_cpu64.so: $(KERNEL_SOURCES:kernels/%.c=$(BUILD)/cpu64/%.o)
	@echo "LINK $@"
	$(Q)$(CC) -shared $(SANITIZE) -o $@ $^ $(ENGINE_LIBS)

$(BUILD)/libflat_cuda.so: $(CUDA_OBJECTS) $(BUILD)/ptxas.txt
	@echo "LINK $@"
	$(Q)$(NVCC) -shared -Xlinker --exclude-libs,ALL -o $@ $(CUDA_OBJECTS) -lcublasLt -ldl
$(CUDA_DIR)/%.o: kernels/%.cu
	@mkdir -p $(@D)
	@echo "NVCC $@"
	$(Q)$(NVCC) $(NVCC_FLAGS) -MMD -MP -c -o $@ $< >$(@:.o=.txt) 2>&1 || { cat $(@:.o=.txt); exit 1; }
$(BUILD)/ptxas.txt: $(CUDA_OBJECTS)
	@cat $(^:.o=.txt) >$@
$(BUILD)/ptx/%.ptx: kernels/%.cu $(CUDA_DIR)/%.o
	@mkdir -p $(@D)
	@echo "NVCC $@"
	$(Q)$(NVCC) -std=c++17 -O3 -gencode=arch=compute_90a,code=compute_90a -ptx -o $@ $<

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

# Tests: one program per file tests/*/test_<name>.c. The CUDA ops run three times: as built, then with AddressSanitizer
# (which must come first into a process that was not linked with it) and with the checker of the emulation. test_parity
# runs as built only: it launches what test_step launches, and takes minutes in the other two.
CUDA_TESTS := $(patsubst %.c,$(BUILD)/tests/%,$(notdir $(filter-out %/test_parity.c,\
    $(shell grep -lE 'OP_TEST_VARIANTS|emu-bf16' $(TEST_SOURCES))))) \
    $(BUILD)/tests/test_comm_cuda
# GOMP_SPINCOUNT: the emulation starts threads for every launch, and they are not to wait for busy cores by spinning.
RUN_TESTS := GOMP_SPINCOUNT=0 FLAT_BUILD=$(BUILD) EMU_BUILD=$(EMU_BUILD) tests/run
test-bin: $(TESTS:%=$(BUILD)/tests/test_%) $(BUILD)/flat $(ENGINES) emu-selftest emu \
    $(if $(NVCC),$(BUILD)/ptxas.txt $(patsubst kernels/%.cu,$(BUILD)/ptx/%.ptx,$(CUDA_SOURCES)))
define test_program
$(BUILD)/tests/$(basename $(notdir $(1))): $(BUILD)/$(1:.c=.o) $(TEST_SUPPORT:%.c=$(BUILD)/%.o) $(BUILD)/libhost.a
	@echo "LINK $$@"
	$(Q)$(CC) $(SANITIZE) -o $$@ $$^ -lcmocka $(HOST_LIBS)
endef
$(foreach source,$(TEST_SOURCES),$(eval $(call test_program,$(source))))
$(TESTS:%=test-%): test-%: deps
	@$(MAKE) --no-print-directory $(BUILD)/tests/test_$* $(BUILD)/flat $(ENGINES)
	@$(RUN_TESTS) $(BUILD)/tests/test_$*
test: deps
	@$(MAKE) --no-print-directory -j$$(nproc) CUDA_ARCHS=90a test-bin
	@$(MAKE) --no-print-directory layers
	@$(RUN_TESTS) $(TESTS:%=$(BUILD)/tests/test_%)
	@$(if $(SAN),:,$(MAKE) --no-print-directory test-sanitized)
	@$(if $(SAN),:,$(MAKE) --no-print-directory SAN=1 NVCC= test-inputs)
# What reads input runs once more in the sanitized build.
INPUT_TESTS := adapter chat_template dataset file json malformed metric_hostile metric_text options plot \
               safetensors tokenizer_files
test-inputs:
	@$(MAKE) --no-print-directory -j$$(nproc) $(INPUT_TESTS:%=$(BUILD)/tests/test_%) $(BUILD)/flat $(BUILD)/libflat_cpu.so
	@echo "what reads input, under AddressSanitizer and UBSan:"
	@$(RUN_TESTS) $(INPUT_TESTS:%=$(BUILD)/tests/test_%)
test-sanitized:
	@for flavour in $(filter-out $(EMU_FLAVOUR),$(EMU_FLAVOURS)); do echo "CUDA ops, $$flavour:"; \
	    [ $$flavour != asan ] || preload="LD_PRELOAD=$$($(CC) -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0"; \
	    env $$preload FLAT_EMU=$(EMU_BUILD)/$$flavour/libflat_emu.so $(RUN_TESTS) $(CUDA_TESTS) || exit 1; preload=; done

# What the ops take, against the limits of the machine: all in short, or one op (any part of a case's name) in full.
bench: deps
	@$(MAKE) --no-print-directory flat
	@$(BUILD)/flat bench kernels --quick
bench-%: deps
	@$(MAKE) --no-print-directory flat
	@$(BUILD)/flat bench kernels --filter $*

# Whole steps against PyTorch on this machine: make compare COMPARE="--model stories-15m --json FILE"; see the script.
COMPARE ?= --model stories-15m --json $(BUILD)/compare.json
.PHONY: compare report
compare: deps $(PARITY)/venv/installed
	@$(MAKE) --no-print-directory flat
	@$(PARITY)/venv/bin/python benches/pytorch/compare.py --flat $(BUILD)/flat $(COMPARE)
# The page and charts of the committed measurements.
report:
	@$(PYTHON) benches/report.py

# No include points from a layer to one on its right.
layers:
	@tools/layers

# Recomputes the golden models with transformers, compares ours with them, and loads our output folders back there.
.PHONY: parity parity-table
parity: deps $(PARITY)/venv/installed
	@$(MAKE) --no-print-directory $(BUILD)/flat $(BUILD)/tests/test_parity $(ENGINES)
	@[ ! -d ../shared/data/tokenizers ] || \
	    $(PARITY)/venv/bin/python -W ignore tests/parity/make_family_tokenizers.py --check $(BUILD)/flat
	@$(PARITY)/venv/bin/python tests/parity/make_model_golden.py --check
	@rm -rf $(PARITY)/out && mkdir -p $(PARITY)/out
	@FLAT_PARITY_OUT=$(PARITY)/out $(BUILD)/tests/test_parity
	@$(PARITY)/venv/bin/python tests/parity/check_output.py --all $(PARITY)/out
parity-table: deps
	@$(MAKE) --no-print-directory $(BUILD)/tests/test_parity $(ENGINES) >&2
	@FLAT_BUILD=$(BUILD) FLAT_PARITY_TABLE=$(BUILD)/parity-table.md tests/run $(BUILD)/tests/test_parity >&2
	@cat $(BUILD)/parity-table.md
# torch is the system's: Debian's python3-torch or a newer one.
$(PARITY)/venv/installed: tests/parity/requirements-models.txt
	@echo "VENV $(@D)"
	$(Q)$(PYTHON) -m venv --system-site-packages $(@D)
	$(Q)$(@D)/bin/pip install -q -r $<
	@touch $@

# Without a GPU the CUDA engine, minutes of compiling, would not be used.
demo: deps
	@$(MAKE) --no-print-directory -j$$(nproc) $(if $(wildcard /dev/nvidia0),,NVCC=) flat
	@FLAT=$(BUILD)/flat configs/demo/run

deps:
	@tools/deps $(CC)

install: flat
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/flat $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	install -m 755 $(BUILD)/flat $(DESTDIR)$(PREFIX)/bin/flat
	install -m 755 $(wildcard $(BUILD)/libflat_cpu.so $(BUILD)/libflat_cuda.so) $(DESTDIR)$(PREFIX)/lib/flat/
	$(BUILD)/flat completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/flat

clean:
	rm -rf build build-san

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
