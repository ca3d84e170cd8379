"""How many items the challenge's files hold, as its own collate scripts count them (2024 to 2026).

A figure on other items than these compares with nobody's.
"""

from collections.abc import Iterator
from pathlib import Path

from palenka.util.text import count


def _lines(table: str) -> dict[str, int]:
    """Lines of each file of a folder, from "name lines name lines …"."""
    words = table.split()
    return dict(zip(words[::2], map(int, words[1::2]), strict=True))


BLIMP = _lines("""
    adjunct_island 928 anaphor_gender_agreement 971 anaphor_number_agreement 931 animate_subject_passive 895
    animate_subject_trans 923 causative 818 complex_NP_island 846
    coordinate_structure_constraint_complex_left_branch 906 coordinate_structure_constraint_object_extraction 949
    determiner_noun_agreement_1 929 determiner_noun_agreement_2 931 determiner_noun_agreement_irregular_1 681
    determiner_noun_agreement_irregular_2 820 determiner_noun_agreement_with_adj_2 941
    determiner_noun_agreement_with_adj_irregular_1 718 determiner_noun_agreement_with_adj_irregular_2 840
    determiner_noun_agreement_with_adjective_1 933 distractor_agreement_relational_noun 788
    distractor_agreement_relative_clause 871 drop_argument 920 ellipsis_n_bar_1 802 ellipsis_n_bar_2 828
    existential_there_object_raising 812 existential_there_quantifiers_1 930 existential_there_quantifiers_2 911
    existential_there_subject_raising 924 expletive_it_object_raising 759 inchoative 855 intransitive 868
    irregular_past_participle_adjectives 961 irregular_past_participle_verbs 942
    irregular_plural_subject_verb_agreement_1 804 irregular_plural_subject_verb_agreement_2 892
    left_branch_island_echo_question 947 left_branch_island_simple_question 951
    matrix_question_npi_licensor_present 929 npi_present_1 909 npi_present_2 914 only_npi_licensor_present 882
    only_npi_scope 837 passive_1 840 passive_2 903 principle_A_c_command 946 principle_A_case_1 912
    principle_A_case_2 915 principle_A_domain_1 914 principle_A_domain_2 915 principle_A_domain_3 941
    principle_A_reconstruction 967 regular_plural_subject_verb_agreement_1 890
    regular_plural_subject_verb_agreement_2 945 sentential_negation_npi_licensor_present 919
    sentential_negation_npi_scope 871 sentential_subject_island 961 superlative_quantifiers_1 979
    superlative_quantifiers_2 986 tough_vs_raising_1 948 tough_vs_raising_2 920 transitive 868 wh_island 960
    wh_questions_object_gap 859 wh_questions_subject_gap 898 wh_questions_subject_gap_long_distance 857
    wh_vs_that_no_gap 861 wh_vs_that_no_gap_long_distance 875 wh_vs_that_with_gap 919
    wh_vs_that_with_gap_long_distance 910
""")
SUPPLEMENT = _lines("""
    hypernym 842 qa_congruence_easy 64 qa_congruence_tricky 165 subject_aux_inversion 3867 turn_taking 280
""")
EWOK = _lines("""
    agent-properties 2210 material-dynamics 770 material-properties 170 physical-dynamics 120 physical-interactions 556
    physical-relations 818 quantitative-properties 314 social-interactions 294 social-properties 328
    social-relations 1548 spatial-relations 490
""")
FILES = {
    "blimp_filtered": BLIMP,
    "supplement_filtered": SUPPLEMENT,
    "ewok_filtered": EWOK,
    "entity_tracking": _lines("regular 3152 ambiref 3224 move_contents 3107"),
    "comps": _lines("comps_base 49340 comps_wugs 13896 comps_wugs_dist-before 13896 comps_wugs_dist-in-between 13896"),
    "wug_adj_nominalization": _lines("wug_adj_nominalization 200"),
    "wug_past_tense": _lines("wug_past_tense 50"),
    "global_piqa_parallel": _lines("eng_latn 103"),
    "global_piqa_nonparallel": _lines("eng_latn 100"),
    "blimp_fast": dict.fromkeys(BLIMP, 200),
    "supplement_fast": dict.fromkeys(SUPPLEMENT, 50),
    "ewok_fast": dict.fromkeys(EWOK, 100),
    "entity_tracking_fast": _lines("regular 3152"),
    "glue_filtered": _lines("""
        boolq.valid 1635 mnli.valid 4908 mrpc.valid 204 multirc.valid 2424 qqp.valid 20215 rte.valid 139 wsc.valid 52
    """),
}
"""Folder → file (its name without .jsonl) → lines. Of GLUE only the files that are reported on."""


GATED = {
    "ewok_filtered": "EWoK is for those who accept its terms: palenka download ewok fetches it with your own access",
    "ewok_fast": "EWoK's fast set is in an archive with a password: palenka download --list says where, at evals-2026",
}
"""Of folders that nobody has without asking for them: how to get them."""


def differences(folder: Path) -> str:
    """In which files a folder of a known name holds other numbers of lines than published; nothing if in none."""
    found = list(_differences(folder))
    return "; ".join([*found[:3], *([f"and {count(len(found) - 3, 'file')} more"] if len(found) > 3 else [])])


def _differences(folder: Path) -> Iterator[str]:
    for name, lines in FILES.get(folder.name, {}).items():
        path = folder / f"{name}.jsonl"
        if not path.is_file():
            yield f"{path.name} is not there"
        elif (there := len(path.read_bytes().rstrip(b"\n").split(b"\n"))) != lines:
            yield f"{path.name} has {there:,} lines, not {lines:,}"
