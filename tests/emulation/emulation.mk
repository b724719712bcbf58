# emulation.mk - CUDA on the CPU: builds kernels/*.cu with g++ or clang++ in three flavours. Included by the Makefile.
#
#   make emu                build/emu/<flavour>/libflat_emu.so of every flavour in EMU_FLAVOURS, build/libflat_emu.so
#                           of EMU_FLAVOUR
#   make emu-plain          one flavour: plain, asan (AddressSanitizer and UBSan), check (races, initialisation, bounds)
#   make emu-selftest       build/emu/<flavour>/selftest, which tests/op/test_emulation.c runs
#   make emu-mutant         one mutant, for tests/emulation/mutate.py
#
# A program that loads the asan flavour must itself be linked with EMU_LINK.asan.

EMU_DIR := tests/emulation
BUILD ?= build
EMU_BUILD ?= $(BUILD)/emu
EMU_FLAVOUR ?= plain
EMU_FLAVOURS ?= plain asan $(if $(shell command -v $(EMU_CLANG) 2>/dev/null),check)
EMU_CLANG ?= clang++
CUDA_HOME ?= /usr/local/cuda

# Everything in kernels/ that is CUDA; with no kernel there yet the library holds the emulation alone.
EMU_KERNELS ?= $(wildcard kernels/*.cu kernels/engine/*.cu)
EMU_RUNTIME := $(addprefix $(EMU_DIR)/,scheduler.cpp fiber.cpp block_memory.cpp launch.cpp counter.cpp atomic.cpp \
    memory.cpp stream.cpp device.cpp cublaslt_plan.cpp cublaslt_matmul.cpp \
    nccl.cpp nccl_hub.cpp nccl_check.cpp)
EMU_SELFTEST := $(addprefix $(EMU_DIR)/,bugs.cu demo.cu selftest.cu selftest_device.cu selftest_host.cu \
    selftest_matmul.cu)

# NVIDIA's headers where they are, so that a wrong prototype is an error; EMU_SHADOW=1 takes the stand-ins instead.
EMU_HEADERS := $(if $(EMU_SHADOW),,$(wildcard $(CUDA_HOME)/include/cublasLt.h))
EMU_INCLUDES := -Ikernels -I$(EMU_DIR) -isystem $(if $(EMU_HEADERS),$(CUDA_HOME)/include,$(EMU_DIR)/shadow)

# Kernels reinterpret global memory as 16-byte vectors, as CUDA allows and C++ does not: no strict aliasing.
EMU_CXXFLAGS := -DEMU $(EMU_INCLUDES) -std=c++17 -g -fPIC -fvisibility=hidden -ftls-model=initial-exec \
    -fno-strict-aliasing -Wall -Wextra -Wno-unknown-pragmas -Werror -MMD -MP
EMU_SANITIZERS := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer

EMU_CXX.plain := g++
EMU_CXX.asan := g++
EMU_CXX.check = $(EMU_CLANG)
EMU_FLAGS.plain := -O2 -fopenmp
EMU_FLAGS.asan := -O1 -fopenmp $(EMU_SANITIZERS)
EMU_FLAGS.check := -O1 -gdwarf-4
# Kernels only: the runtime would report on itself.
EMU_KERNEL_FLAGS.check := -fsanitize=thread -mllvm -tsan-instrument-func-entry-exit=0 -mllvm -tsan-instrument-atomics=0
# clang 14 has copies of whole arrays, and loops that it makes a memcpy of, call memcpy itself; clang 16 calls these functions.
EMU_REDEFINE.check := objcopy --redefine-sym memcpy=__tsan_memcpy --redefine-sym memmove=__tsan_memmove \
    --redefine-sym memset=__tsan_memset
EMU_CHECKER.plain := $(EMU_DIR)/check_none.cpp
EMU_CHECKER.asan := $(EMU_DIR)/check_none.cpp
EMU_CHECKER.check := $(EMU_DIR)/check.cpp $(EMU_DIR)/check_entry.cpp
EMU_LINK.plain := -fopenmp
EMU_LINK.asan := -fopenmp -fsanitize=address,undefined
EMU_LINK.check := -ldl
EMU_LIBS := -lopenblas -lrt -lm
EMU_SHARED := -shared -Wl,--version-script=$(EMU_DIR)/exports.map

# $(call emu_objects,flavour,sources)
emu_objects = $(patsubst %,$(EMU_BUILD)/$(1)/%.o,$(2))
emu_runtime_objects = $(call emu_objects,$(1),$(EMU_RUNTIME) $(EMU_CHECKER.$(1)))

.PHONY: emu emu-selftest emu-mutant
emu: $(EMU_FLAVOURS:%=emu-%) $(BUILD)/libflat_emu.so
emu-selftest: $(EMU_FLAVOURS:%=$(EMU_BUILD)/%/selftest)

$(BUILD)/libflat_emu.so: $(EMU_BUILD)/$(EMU_FLAVOUR)/libflat_emu.so
	$(Q)cp $< $@

define emu_flavour
.PHONY: emu-$(1)
emu-$(1): $(EMU_BUILD)/$(1)/libflat_emu.so

$(EMU_BUILD)/$(1)/%.cpp.o: %.cpp
	@mkdir -p $$(@D)
	@echo "CXX $$@"
	$(Q)$(EMU_CXX.$(1)) $(EMU_CXXFLAGS) $(EMU_FLAGS.$(1)) -c $$< -o $$@

$(EMU_BUILD)/$(1)/%.cu.o: %.cu
	@mkdir -p $$(@D)
	@echo "CXX $$@"
	$(Q)$(EMU_CXX.$(1)) $(EMU_CXXFLAGS) $(EMU_FLAGS.$(1)) $(EMU_KERNEL_FLAGS.$(1)) -x c++ -c $$< -o $$@
	$(if $(EMU_REDEFINE.$(1)),$(Q)$(EMU_REDEFINE.$(1)) $$@)

$(EMU_BUILD)/$(1)/libflat_emu.so: $(call emu_objects,$(1),$(EMU_KERNELS)) $(call emu_runtime_objects,$(1))
	@echo "LINK $$@"
	$(Q)$(EMU_CXX.$(1)) $(EMU_SHARED) $$^ $(EMU_LINK.$(1)) $(EMU_LIBS) -o $$@

$(EMU_BUILD)/$(1)/selftest: $(call emu_objects,$(1),$(EMU_SELFTEST)) $(call emu_runtime_objects,$(1))
	@echo "LINK $$@"
	$(Q)$(EMU_CXX.$(1)) $$^ $(EMU_LINK.$(1)) $(EMU_LIBS) -o $$@
endef
$(foreach flavour,plain asan check,$(eval $(call emu_flavour,$(flavour))))

# make emu-mutant FLAVOUR=check ORIGINAL=kernels/norm.cu MUTANT=dir/norm.cu OUTPUT=dir/libflat_emu.so
# The program or library that holds ORIGINAL, with MUTANT in its place. Headers beside MUTANT come first.
EMU_MUTANT_SET = $(if $(filter $(ORIGINAL),$(EMU_SELFTEST)),$(EMU_SELFTEST),$(EMU_KERNELS))
EMU_MUTANT_REST = $(call emu_objects,$(FLAVOUR),$(filter-out $(ORIGINAL),$(EMU_MUTANT_SET))) \
    $(call emu_runtime_objects,$(FLAVOUR))
EMU_MUTANT_SHARED = $(if $(filter $(ORIGINAL),$(EMU_SELFTEST)),,$(EMU_SHARED))
emu-mutant: $(EMU_MUTANT_REST)
	$(EMU_CXX.$(FLAVOUR)) -I$(dir $(MUTANT)) $(EMU_CXXFLAGS) $(EMU_FLAGS.$(FLAVOUR)) $(EMU_KERNEL_FLAGS.$(FLAVOUR)) \
	    -I$(dir $(ORIGINAL)) -x c++ -c $(MUTANT) -o $(OUTPUT).o
	$(if $(EMU_REDEFINE.$(FLAVOUR)),$(EMU_REDEFINE.$(FLAVOUR)) $(OUTPUT).o)
	$(EMU_CXX.$(FLAVOUR)) $(EMU_MUTANT_SHARED) $(OUTPUT).o $(EMU_MUTANT_REST) $(EMU_LINK.$(FLAVOUR)) \
	    $(EMU_LIBS) -o $(OUTPUT)

-include $(foreach flavour,plain asan check,$(patsubst %.o,%.d,$(call emu_objects,$(flavour),$(EMU_KERNELS) \
    $(EMU_SELFTEST)) $(call emu_runtime_objects,$(flavour))))
