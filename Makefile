# flat.c - LLM unlearning in C and CUDA. `make` alone prints this help.
#
#   make flat               build/flat and its engines: CPU, and CUDA where there is a GPU and nvcc (or CUDA=1)
#   make cuda               the CUDA engine alone (build/libflat_cuda.so) and the compiler's report (build/ptxas.txt)
#   make demo               set up, fine-tune a small model, unlearn a part of it, print a table (about a minute)
#   make test               set up, build and run every test, side by side
#   make test-<name>        build what one test needs, and run it: make test-norm, test-json, ...; FLAVOURS="plain asan
#                           check" runs one of the CUDA kernels in these flavours of the emulation (plain)
#   make fuzz SECONDS=20    hostile input for every parser, so long for each (needs clang)
#   make analyze            gcc's static analysis of every C file
#   make bench              measure every op on this machine, checked first (about a minute); make bench-<op>, as bench-norm
#   make compare            whole steps against PyTorch (as parity);  make report  benches/results/README.md anew
#   make parity             compare with transformers, live (needs Python with torch; the rest comes from PyPI)
#   make parity-table       print how far every family is from transformers on every engine
#   make deps               install the libraries that are missing, or print the line that does
#   make install            PREFIX=/usr/local DESTDIR=;  make uninstall with the same
#   make clean
#
#   Settings: CUDA=1 builds the CUDA engine without a GPU here, CUDA= leaves it out · CUDA_ARCHS="80 90a 100" · SAN=1
#             debug build with AddressSanitizer and UBSan (in build-san) · BUILD=dir · MARCH=native · JOBS=tests at once ·
#             V=1 prints commands
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
HOST_LIBS := -pthread -lcjson -lpcre2-8 -lutf8proc -lxxhash -lz -lcrypto -ldl -lm
ENGINE_LIBS := -fopenmp -lm -Wl,-z,initfirst

METHODS := $(sort $(patsubst host/loss/methods/%.c,%,$(wildcard host/loss/methods/*.c)))
COMMANDS := $(sort $(patsubst host/cli/commands/%.c,%,$(wildcard host/cli/commands/*.c)))
FAMILIES := $(sort $(patsubst models/%.c,%,$(wildcard models/*.c)))
HOST_SOURCES := $(filter-out host/cli/main.c,$(wildcard host/*/*.c host/*/*/*.c models/*.c))
HOST_OBJECTS := $(HOST_SOURCES:%.c=$(BUILD)/%.o) $(BUILD)/registry.o $(BUILD)/commands.o $(BUILD)/version.o
KERNEL_SOURCES := $(wildcard kernels/*.c kernels/engine/*.c)
CUDA_SOURCES := $(wildcard kernels/*.cu kernels/engine/*.cu)
TEST_SOURCES := $(wildcard tests/*/test_*.c)
TESTS := $(sort $(patsubst test_%.c,%,$(notdir $(TEST_SOURCES))))
TEST_SUPPORT := $(wildcard tests/support/*.c)
ENGINES := $(BUILD)/libflat_cpu.so $(BUILD)/libflat_cpu64.so $(BUILD)/libflat_emu.so

# CUDA takes minutes to compile: done unasked only where there is a GPU to use it.
# One object directory for a set of architectures, so that the tests can do with one. PTX of the last for newer.
, := ,
NVCC ?= $(firstword $(shell command -v nvcc) $(wildcard /usr/local/cuda/bin/nvcc))
CUDA ?= $(if $(wildcard /dev/nvidia[0-9]*),$(if $(NVCC),1))
ifneq ($(CUDA),)
ifeq ($(NVCC),)
$(error CUDA=$(CUDA), but there is no nvcc on the path or in /usr/local/cuda/bin; NVCC= names it)
endif
endif
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

# A name that make does not know is refused before anything is built.
OPS := $(sort $(filter $(basename $(notdir $(KERNEL_SOURCES))),$(patsubst bench_%.c,%,$(notdir $(wildcard host/bench/bench_*.c)))))
TARGETS := help flat cuda demo test test-bin fuzz analyze analyze-objects layers bench compare report parity parity-table deps install install-files uninstall clean \
    emu $(EMU_FLAVOURS:%=emu-%) emu-selftest emu-mutant $(TESTS:%=test-%) $(OPS:%=bench-%)
UNKNOWN := $(strip $(foreach goal,$(filter-out $(TARGETS),$(MAKECMDGOALS)),$(if $(findstring /,$(goal)),,$(goal))))
ifneq ($(UNKNOWN),)
$(error $(shell tools/nearest $(firstword $(UNKNOWN)) $(TARGETS)))
endif
# Side by side on all cores, unless the user said how many.
PARALLEL = $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(shell nproc))
SUBMAKE = $(MAKE) --no-print-directory $(PARALLEL)

.PHONY: $(TARGETS) FORCE
help:
	@awk '/^#/ { sub(/^# ?/, ""); print; next } { exit }' Makefile

flat: $(BUILD)/flat $(BUILD)/libflat_cpu.so $(BUILD)/libflat_cpu64.so $(if $(CUDA),$(BUILD)/libflat_cuda.so)
	$(if $(CUDA)$(filter-out file,$(origin CUDA)),,$(if $(NVCC),@echo "no GPU here: built without the CUDA engine (CUDA=1 builds it)"))
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
	$(Q)$(CC) -shared $(SANITIZE) -o $@ $^ -lopenblas $(ENGINE_LIBS)

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
# So are the commands: those of host/cli/commands/.
$(BUILD)/commands.c: Makefile $(wildcard host/cli/commands/*.c)
	@mkdir -p $(@D)
	@{ echo '#include "host/cli/command.h"'; for c in $(COMMANDS); do echo "extern const struct command command_$$c;"; done; \
	   echo 'const struct command *const commands[] = {'; for c in $(COMMANDS); do echo "    &command_$$c,"; done; \
	   echo '    NULL};'; } > $@
# Rewritten only when the commit changes, so that nothing is linked again without need.
$(BUILD)/version.c: FORCE
	@mkdir -p $(@D)
	@commit=$$(git describe --always --dirty 2>/dev/null || echo unknown); \
	 printf '#include "host/util/version.h"\nconst char *version_commit(void) { return "%s"; }\n' "$$commit" > $@.new; \
	 cmp -s $@.new $@ && rm $@.new || mv $@.new $@

# Tests: one program per file tests/*/test_<name>.c. tests/needs says what each is linked with and what it loads.
# Tests of CUDA code run in three flavours of the emulation: as built, then with AddressSanitizer (which must come first
# into a process that was not linked with it) and with the checker of races. test_parity runs as built only: it launches
# what test_step launches, and takes minutes in the other two. What reads input runs once more in the sanitized build.
FLAVOURS ?= $(EMU_FLAVOUR)
CUDA_TESTS := $(patsubst test_%.c,%,$(notdir $(filter-out %/test_parity.c,\
    $(shell grep -lE 'OP_TEST_VARIANTS|emu-bf16' $(TEST_SOURCES))))) comm_cuda
INPUT_TESTS := adapter chat_template command data_forms dataset example file from_logs hostile json malformed metric_hostile metric_text \
    options plot safetensors strangers tokenizer_files
NEEDS_SOURCES := $(sort $(shell find host models tests -name '*.[ch]'))
$(BUILD)/tests/needs.mk: tests/needs $(NEEDS_SOURCES)
	@mkdir -p $(@D)
	@tests/needs $(NEEDS_SOURCES) >$@
ifneq ($(filter test% $(BUILD)/tests/%,$(MAKECMDGOALS)),)
include $(BUILD)/tests/needs.mk
endif
need_program := $(BUILD)/flat
need_cpu := $(BUILD)/libflat_cpu.so
need_cpu64 := $(BUILD)/libflat_cpu64.so
need_emu := $(BUILD)/libflat_emu.so
need_fault := $(BUILD)/libfault.so
need_selftest := emu-selftest
# What tools/gpu rehearse runs.
need_rehearsal := $(ENGINES) $(patsubst %,$(BUILD)/tests/test_%,engine cast row_scale logprob adamw_moments methods)
need_nvcc := $(if $(NVCC),$(BUILD)/ptxas.txt $(patsubst kernels/%.cu,$(BUILD)/ptx/%.ptx,$(CUDA_SOURCES)))
# Preloaded into the program by tests: see tests/support/fault/fault.h.
$(BUILD)/libfault.so: tests/support/fault/fault.c tests/support/fault/fault.h
	@mkdir -p $(@D)
	@echo "LINK $@"
	$(Q)$(CC) $(filter-out $(SANITIZE),$(HOST_FLAGS)) -shared -o $@ $< -ldl -lgcc_s
# $(call test_files,names): the programs and all that they load.
test_files = $(foreach test,$(1),$(BUILD)/tests/test_$(test) $(foreach need,$(needs_$(test)),$(need_$(need)))) \
    $(if $(filter $(CUDA_TESTS),$(1)),$(FLAVOURS:%=$(EMU_BUILD)/%/libflat_emu.so))
# $(call test_jobs,names): as arguments of tests/run.
test_jobs = $(foreach test,$(1),$(BUILD)/tests/test_$(test)) \
    $(foreach flavour,$(filter-out $(EMU_FLAVOUR),$(FLAVOURS)),$(foreach test,$(filter $(CUDA_TESTS),$(1)),\
        'FLAVOUR=$(flavour) $(flavour_$(flavour)) FLAT_EMU=$(EMU_BUILD)/$(flavour)/libflat_emu.so $(BUILD)/tests/test_$(test)'))
flavour_asan = LD_PRELOAD=$(shell $(CC) -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0
sanitized_jobs = $(INPUT_TESTS:%='FLAVOUR=sanitized FLAT_BUILD=$(BUILD)-san $(BUILD)-san/tests/test_%')
# GOMP_SPINCOUNT: the emulation starts threads for every launch, and they are not to wait for busy cores by spinning.
RUN_TESTS = GOMP_SPINCOUNT=0 FLAT_BUILD=$(BUILD) EMU_BUILD=$(EMU_BUILD) JOBS=$(JOBS) tests/run
$(TESTS:%=$(BUILD)/tests/test_%):
	@echo "LINK $@"
	$(Q)$(CC) $(SANITIZE) -o $@ $^ -lcmocka $(HOST_LIBS)
test-bin: $(call test_files,$(or $(WANTED),$(TESTS)))
	@:
$(TESTS:%=test-%): test-%: deps
	+@$(SUBMAKE) CUDA_ARCHS=90a WANTED=$* test-bin
	@$(RUN_TESTS) $(call test_jobs,$*)
test: FLAVOURS := $(if $(SAN),$(EMU_FLAVOUR),$(EMU_FLAVOURS))
test: deps layers
	+@$(SUBMAKE) CUDA_ARCHS=90a FLAVOURS="$(FLAVOURS)" test-bin
	+@$(if $(SAN),:,$(SUBMAKE) SAN=1 CUDA= BUILD=$(BUILD)-san WANTED="$(INPUT_TESTS)" test-bin)
	@$(RUN_TESTS) $(call test_jobs,$(TESTS)) $(if $(SAN),,$(sanitized_jobs))

# Fuzzing: a libFuzzer target per tests/fuzz/fuzz_<name>.c, each for so many seconds; what one finds is left in
# $(BUILD)/fuzz/found. Seeds: tests/fuzz/corpus, made by tests/fuzz/make_corpus.
SECONDS ?= 20
FUZZ := $(sort $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c)))
FUZZ_SANITIZE := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
$(FUZZ:%=$(BUILD)/tests/fuzz_%):
	@echo "LINK $@"
	$(Q)$(CC) $(SANITIZE) -fsanitize=fuzzer -o $@ $^ $(HOST_LIBS)
fuzz: deps
	@command -v clang >/dev/null || { echo "make fuzz needs clang: apt-get install clang" >&2; exit 1; }
	+@$(SUBMAKE) SAN= BUILD=$(BUILD)/fuzz CC=clang CFLAGS="-O1 -g" SANITIZE="$(FUZZ_SANITIZE)" $(FUZZ:%=$(BUILD)/fuzz/tests/fuzz_%)
	@JOBS=$(JOBS) tests/fuzz/run $(SECONDS) $(BUILD)/fuzz $(FUZZ)

# What gcc's analyzer finds in the C of host/, models/ and kernels/: nothing, or the build fails. A finding that is none is
# explained where it is, with a pragma. Other versions of gcc find other things; this is clean with gcc 12.
ANALYZER ?= gcc
ANALYZED := $(HOST_SOURCES) host/cli/main.c $(KERNEL_SOURCES)
$(BUILD)/analyze/%.o: %.c tools/analyze.h
	@mkdir -p $(@D)
	@echo "ANALYZE $<"
	$(Q)$(ANALYZER) -std=gnu17 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -O1 -fanalyzer -Werror -Wno-unknown-pragmas \
	    $(if $(filter host/util/error.c,$<),,-include tools/analyze.h) -MMD -MP -c -o $@ $<
analyze: deps
	+@$(SUBMAKE) -k analyze-objects
analyze-objects: $(ANALYZED:%.c=$(BUILD)/analyze/%.o)

# What an op takes, against the limits of the machine: all in short, or one op in full.
bench: deps
	+@$(SUBMAKE) flat
	@$(BUILD)/flat bench kernels --quick
$(OPS:%=bench-%): bench-%: deps
	+@$(SUBMAKE) flat
	@$(BUILD)/flat bench kernels --filter $*

# Whole steps against PyTorch on this machine: make compare COMPARE="--model stories-15m --json FILE"; see the script.
COMPARE ?= --model stories-15m --json $(BUILD)/compare.json
compare: deps $(PARITY)/venv/installed
	+@$(SUBMAKE) flat
	@$(PARITY)/venv/bin/python benches/pytorch/compare.py --flat $(BUILD)/flat $(COMPARE)
# The page and charts of the committed measurements.
report: deps
	+@$(SUBMAKE) flat
	@$(PYTHON) benches/report.py $(BUILD)/flat

# No include or call points from a layer to one on its right, and no object files need each other in a circle.
layers: $(BUILD)/flat
	@tools/layers $(BUILD)

# Recomputes the golden models with transformers, compares ours with them, and loads our output folders back there.
parity: deps $(PARITY)/venv/installed
	+@$(SUBMAKE) $(BUILD)/flat $(BUILD)/tests/test_parity $(ENGINES)
	@[ ! -d ../shared/data/tokenizers ] || \
	    $(PARITY)/venv/bin/python -W ignore tests/parity/make_family_tokenizers.py --check $(BUILD)/flat
	@$(PARITY)/venv/bin/python tests/parity/make_model_golden.py --check
	@$(PARITY)/venv/bin/python tests/parity/make_method_golden.py --check
	@$(PARITY)/venv/bin/python -W ignore tests/parity/make_method_model_golden.py --check
	@! $(PARITY)/venv/bin/python -c 'import bitsandbytes' 2> /dev/null || \
	    $(PARITY)/venv/bin/python -W ignore tests/parity/make_nf4_golden.py --check
	@rm -rf $(PARITY)/out && mkdir -p $(PARITY)/out
	@FLAT_PARITY_OUT=$(PARITY)/out $(BUILD)/tests/test_parity
	@$(PARITY)/venv/bin/python tests/parity/check_output.py --all $(PARITY)/out
parity-table: deps
	+@$(SUBMAKE) $(BUILD)/tests/test_parity $(ENGINES) >&2
	@FLAT_BUILD=$(BUILD) FLAT_PARITY_TABLE=$(BUILD)/parity-table.md tests/run $(BUILD)/tests/test_parity >&2
	@cat $(BUILD)/parity-table.md
# torch is the system's: Debian's python3-torch or a newer one.
$(PARITY)/venv/installed: tests/parity/requirements-models.txt
	@echo "VENV $(@D)"
	$(Q)$(PYTHON) -m venv --system-site-packages $(@D)
	$(Q)$(@D)/bin/pip install -q -r $<
	@touch $@

demo: deps
	+@$(SUBMAKE) flat
	@FLAT=$(BUILD)/flat configs/demo/run

deps:
	@tools/deps $(CC)

# An engine for CUDA that was built before is installed as long as it is of these sources.
SHARE := $(PREFIX)/share/flat
# What `flat` prints of itself, by where it goes: completion for three shells, the manual page.
SHARED_TEXTS := bash-completion/completions/flat zsh/site-functions/_flat fish/vendor_completions.d/flat.fish man/man1/flat.1
install: deps
	+@$(SUBMAKE) flat
	+@$(SUBMAKE) install-files
install-files:
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/flat $(dir $(SHARED_TEXTS:%=$(DESTDIR)$(PREFIX)/share/%))
	install -s -m 755 $(BUILD)/flat $(DESTDIR)$(PREFIX)/bin/flat
	rm -f $(DESTDIR)$(PREFIX)/lib/flat/libflat_*.so
	install -s -m 755 $(BUILD)/libflat_cpu.so $(BUILD)/libflat_cpu64.so $(DESTDIR)$(PREFIX)/lib/flat/
	@if $(if $(NVCC),$(MAKE) -q $(BUILD)/libflat_cuda.so 2>/dev/null,false); then \
	    set -x; install -s -m 755 $(BUILD)/libflat_cuda.so $(DESTDIR)$(PREFIX)/lib/flat/; fi
	for model in $(notdir $(wildcard benches/models/*)); do \
	    install -D -m 644 -t $(DESTDIR)$(SHARE)/models/$$model benches/models/$$model/config.json || exit 1; done
	install -m 644 benches/tofu_lengths.txt $(DESTDIR)$(SHARE)/
	$(BUILD)/flat completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/flat
	$(BUILD)/flat completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_flat
	$(BUILD)/flat completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/flat.fish
	$(BUILD)/flat man > $(DESTDIR)$(PREFIX)/share/man/man1/flat.1
uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/flat $(SHARED_TEXTS:%=$(DESTDIR)$(PREFIX)/share/%)
	rm -rf $(DESTDIR)$(PREFIX)/lib/flat $(DESTDIR)$(SHARE)

clean:
	rm -rf build build-san

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
