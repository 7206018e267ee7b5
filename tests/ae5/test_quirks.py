"""Which test proves the defence against which habit of ae5-tools or of the platform. A table, kept true."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

QUIRKS = {
    "secret values and passwords in error text": [
        "test_no_error_shows_the_value",
        "test_a_secret_value_is_in_no_error",
        "test_a_refused_account_shows_no_password",
        "test_nothing_of_a_foreign_exception_survives",
    ],
    "TLS verification off by default, and changed by the environment": [
        "test_an_untrusted_certificate_stops_everything",
        "test_the_environment_does_not_replace_the_configured_authority",
        "test_verification_is_off_only_when_switched_off_by_name",
    ],
    "raw network exceptions from the login": [
        "test_an_unreachable_platform_is_reported_by_its_cause",
        "test_each_cause_has_its_own_message",
    ],
    "writes repeated on 502, 503, 504 and broken connections": [
        "test_a_write_is_sent_once_and_its_outcome_called_unknown"
    ],
    "a write that took effect though its answer was lost": [
        "test_an_upload_whose_answer_is_lost_happens_once",
        "test_a_start_whose_answer_is_lost_happens_once",
        "test_a_job_whose_answer_is_lost_is_created_once",
        "test_a_run_whose_answer_is_lost_is_started_once",
    ],
    "a redirect or a login page taken for success": [
        "test_a_redirect_is_not_success",
        "test_a_page_is_not_a_result",
        "test_a_write_answered_by_the_login_page_is_not_success",
        "test_what_is_no_token_is_not_taken_for_one",
    ],
    "403 turned into RetryError": ["test_403_is_a_refusal_in_the_platforms_words"],
    "a run that is not listed at once": ["test_a_run_started_but_not_listed_at_once_is_no_crash"],
    "an error inside a 200 answer": ["test_an_error_inside_a_200_answer_is_raised"],
    "waits without end": [
        "test_an_upload_that_is_never_processed_ends",
        "test_a_project_that_is_never_listed_ends",
        "test_waiting_for_a_start_ends",
        "test_a_deployment_that_does_not_stop_ends_the_wait",
        "test_a_silent_platform_ends_the_call_at_the_timeout",
        "test_an_answer_that_trickles_for_ever_ends",
    ],
    "a wait that takes any error for not yet": ["test_waiting_does_not_hide_a_refusal"],
    "an endpoint freed late": ["test_an_endpoint_that_is_freed_late_is_waited_for"],
    "an endpoint claimed by another project": ["test_an_endpoint_of_another_project_is_a_conflict_that_names_it"],
    "impossible endpoint names sent": ["test_an_impossible_endpoint_is_refused_before_sending"],
    "endpoint list that fails on incomplete records": [
        "test_endpoints_without_a_project_or_deployments_without_a_url_do_no_harm"
    ],
    "an upload answer without action": ["test_an_upload_without_an_action_is_accepted_when_listed"],
    "the local path sent as file name": ["test_no_local_path_is_sent"],
    "leftover runs that block a job's name": ["test_leftover_runs_of_a_deleted_job_do_not_block_its_name"],
    "secret names that cannot be deleted again": ["test_names_the_platform_could_not_keep_are_refused_before_sending"],
    "prompts without a terminal, and printing": ["test_a_failed_login_prompts_for_nothing_and_prints_nothing"],
    "every failed login called a wrong password": ["test_a_failed_login_states_its_reason"],
    "an unknown login page taken for being signed in": ["test_an_unknown_login_page_is_not_taken_for_being_signed_in"],
    "old cookies that hide a failed login": ["test_a_failed_renewal_is_not_hidden_by_old_cookies"],
    "names taken for patterns": ["test_names_are_not_patterns_and_owners_count"],
    "users taken for patterns, and listed twice": ["test_impersonation_goes_by_id_with_one_list_of_users"],
    "answers without Content-Type": ["test_empty_and_untyped_answers"],
    "resource profiles with another description": ["test_resource_profiles_need_no_particular_description"],
    "records without a project": ["test_jobs_without_a_project_are_listed"],
    "sessions left open": ["test_close_signs_out_once"],
}


@pytest.fixture(scope="module")
def written():
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in Path(__file__).parent.glob("test_*.py")]
    return {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("quirk", QUIRKS)
def test_each_quirk_has_its_tests(quirk, written):
    assert set(QUIRKS[quirk]) <= written
