# The study of results/PLAN.md: every run and its evaluation, two at a time with -j2, going on where it stopped.
#   make -f results/study.mk -j2        (needs the data of config/sample/base.yaml, and BLiMP in evaluation_data/)
# One thread a run: cores are worth more to runs side by side. An arm's first seed, 0, has its plain name.

RUNS := $(or $(PALENKA_RUNS),runs)
ARMS := control kd dskd babyllama palenkallama-as-run mix kd-mix kd-equal-flops chain
MORE := $(foreach arm,control kd-equal-flops,$(arm)-s3 $(arm)-s4)  # question 1b, by the plan's rule on more seeds
TEACHERS := teacher-gpt2 teacher-llama

result = $(1:%=$(RUNS)/sample/%/result.json)
score = $(1:%=$(RUNS)/sample/%/evaluation/blimp_filtered.json)
# search.json is there from a search's first trial on, so that its end has a file of its own
searched = $(1:%=$(RUNS)/search/sample-%/.searched)

export OMP_NUM_THREADS = 1
.SECONDARY:
.PHONY: study tuned
study: tuned $(call score,$(TEACHERS) $(foreach arm,$(ARMS),$(arm) $(arm)-s1 $(arm)-s2) $(MORE) control-6M)
tuned: $(call searched,$(TEACHERS) control mix kd)

$(call searched,%):
	palenka search --config config/search/sample-$*.yaml
	touch $@
$(call searched,kd): $(call result,$(TEACHERS))

$(call score,%): $(call result,%)
	palenka evaluate sample/$* --tasks blimp_filtered,supplement_filtered

$(call result,teacher-%):
	python train.py --config config/sample/teacher-$*.yaml
$(call result,short-teacher-%):
	python train.py --config config/sample/teacher-$*.yaml name=sample/short-teacher-$* training.max_steps=280
$(call result,control-6M):
	python train.py --config config/sample/control.yaml name=sample/control-6M training.max_steps=6000

# An arm: its name, its program, what is added to its config, the runs that it needs.
define arm
$(call result,$(1)): $(call result,$(4))
	python $(2) --config config/sample/$(3) name=sample/$(1)
$(call result,$(1)-s%): $(call result,$(4))
	python $(2) --config config/sample/$(3) name=sample/$(1)-s$$* seed=$$*
endef

$(eval $(call arm,control,train.py,control.yaml))
$(eval $(call arm,mix,train.py,mix.yaml))
$(eval $(call arm,kd,distill.py,kd.yaml,$(TEACHERS)))
$(eval $(call arm,dskd,dskd_noaux.py,dskd.yaml,$(TEACHERS)))
$(eval $(call arm,babyllama,distill.py,babyllama.yaml,$(TEACHERS)))
$(eval $(call arm,palenkallama-as-run,distill.py,palenkallama-as-run.yaml,$(TEACHERS)))
$(eval $(call arm,kd-mix,distill.py,kd-mix.yaml,$(TEACHERS)))
$(eval $(call arm,chain,distill.py,chain.yaml,kd kd-s1 kd-s2))
$(eval $(call arm,kd-equal-flops,distill.py,kd.yaml training.max_steps=280 teachers.0.run=sample/short-teacher-gpt2 \
	teachers.1.run=sample/short-teacher-llama,$(TEACHERS:%=short-%)))
