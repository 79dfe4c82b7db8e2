"""What only POSIX has, and which tests are about that. tests/windows has its own for Windows.

The tests stand here, and not with a mark each, so that one page shows what Windows does not run, and why.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

fcntl: Any = None
if os.name != "nt":
    import fcntl as _fcntl

    fcntl = _fcntl

IS_ROOT = os.name != "nt" and os.geteuid() == 0

# Modules that are not looked at, by reason.
MODULES = {
    "about POSIX: flock, owners, what the launcher makes of a script, processes that fork": """
        launcher lock ownership store_crashes
    """,
    "explain does not run on Windows": """
        recorder causes
    """,
    "cargo is a shell's script, and the files are its first layout's: windows/test_kept_there.py": """
        build_dir_run
    """,
    "paths with slashes and stand-ins; windows/test_builds_there.py has the whole": """
        wrapper_plans snapshot_parts
    """,
    "names that are not UTF-8, and what POSIX alone calls a file": """
        odd_input
    """,
    "each test makes an environment, for which Wine takes 4 s: windows/test_environment_there.py has one": """
        digest digest_properties snapshot
    """,
    "paths with slashes, links and modes: windows/test_kept_there.py has its own": """
        overlay
    """,
    "the same on all systems, with thousands of files, which take long under Wine": """
        freshness_histories set_aside_histories
    """,
}
IGNORED = (
    [f"test_{name}.py" for names in MODULES.values() for name in names.split()] if os.name == "nt" else []
)

# Patterns of a module's and a test's name, by reason.
ABOUT_POSIX = {
    "symbolic links, which few users of Windows may make": """
        env::.*with_path|.*shadows_no_program|TestAnInstallationThatIsNotWhole
        build_dir::.*follows_no_link
        entry::.*\\[.*(link|broken.interpreter|another.interpreter|second.name)
        files::.*write_to_what_is_there|.*last_changed_is_asked
        freshness::.*_link|.*behind_a_link
        harmless::.*behind_a_link
        prune::.*(whose_entry_is_gone|gives_one|wrapper_is_gone|not_the_stores)
        frontends::.*through_a_link
        interpreter::.*environment_says_it_does
        other_platforms::.*when_it_is_there
        set_aside::.*folder_is_a_link
        assessment::.*names_that_it_used
        unseen::.*link
        sources::.*link|.*step_up|TestAJunctionOnWindows|.*where_that_leads|.*when_it_changed
        startup::.*in_no_environment_forgets|.*environment_links_to
        store::.*leaves_nothing_behind\\[(link|symlink)|.*something_else|.*by_that_name
    """,
    "on Windows, a wrapper's path does not name the user's cargo (`_startup.by_way_of`) yet": """
        startup::.*own_cargo_to_the_wrapper|.*whose_environment_is_gone
    """,
    "Wine renames a folder over a file, which Windows refuses": """
        install::.*given_back
    """,
    "modes and owners": """
        env::.*home_is_the_runners
        cache::.*told_in_a_line_and_a_hint
        build_dir::.*is_not_inherited|.*others_can_write|.*as_windows_needs_it
        builds::.*own_alone|TestAPlace
        entry::.*right_modes|.*(lost|gained)_?.*mode|.*others_may_do|.*folders_mode|.*cannot_be_looked_at
        files::.*with_its_mode|TestRemovingOnWindows|TestRemovingWhatItsOwner
        install::TestInThisProcess
        switch::.*users_alone
        frontends::.*others_may_look|.*that_is_gone_is_nobodys
        store::TestTrust|.*users_is_not_used|.*programs_can_be_started|.*though_no_build
        store::.*replaced\\[mode
    """,
    "a file can be replaced, or removed, while it is open": """
        builds::.*needs_no_working_folder|.*it_cannot_take
        entry::.*cannot_be_mended
        files::.*open_elsewhere|.*while_it_writes|.*needs_no_working_folder
        target_dir::.*something_stays
    """,
    "programs are scripts, and PATH has colons": """
        env::TestEnv::.*(cargo_alone|of_the_user|that_is_gone|asked_for\\[(sh|fish)|not_unicode)
        env::TestRun::.*(the_variables|an_interpreter|commands_status|as_it_was|odd_arguments|cannot_run)
        call::.*without_us\\[environ[67]-
        command_line::TestTheRealCargo
        doctor::.*where_maturin_does|.*the_same_as_json
        doctor::.*about_no_other
        prune::TestACall
        entry::TestAnEntry.*_its_scripts|.*found_by_an_equal_environment|.*a_pipe
        metadata::TestTheProcessThatIsAsked
        other_platforms::TestWaitingInsteadOfExec
        scripts::.*does_what_it_did
        wrapper::TestFindingCargo::.*(never_finds|on_the_path_of|path_names)|.*cargo_is_called_by
        wrapper::TestTroubleOfOurOwn
        startup::.*below_a_running_build_script|.*wrapper_whose_interpreter|.*beside_the_interpreter_too
    """,
    "explain does not run on Windows": """
        command::TestTheRecorderIsPut
    """,
    "an entry holds copies on Windows, and uv's launchers have the length of their path in them": """
        cache::.*counts_shared_files_once
        entry::.*does_not_reach_the_store_unseen
        wrapper::.*from_another_environment
    """,
    "paths with slashes, HOME, and interpreters in bin": """
        cache::.*users_cache_folder
        install::.*wrapper_start_python_isolated
        frontends::.*usual_folders_is_known
        interpreter::.*(calls_it|copy_in_an_environment|keeps_the_name|of_its_names|it_was_called)
        interpreter::.*(nested_environments|be_run)
        interpreter::.*(all_that_decide|on_windows|in_a_framework|its_build_data|shared_library)
        wrapper::.*(name_the_entry|name_it_wherever|store_made_absolute|is_open_to_others)
        entry::TestATamperedEntry|.*configuration_the_original|.*shares_its_files|.*does_not_share|.*only_changes_times
        set_aside::.*has_noted_beside
        assessment::TestWhat|TestAVendored|.*somebody_reads_it
        freshness::.*stamp_and_cargos_tag|.*there_is_not_tagged|.*units_are_for_us
        shelf::TestTheInterpreter|.*case_of_a_variable
        prune::.*(by_a_use|what_is_held|file_too|those_in_use|without_the_original)
        layout::.*know_their_own_separators
        metadata::.*root_package|TestAQuery
        startup::.*python_does_not_tell|.*pipX|.*where_installers_put_them$|.*debians|.*site_packages$
        startup::.*end_overlays_it$
        sources::.*known_by_its_path|.*asked_for\\[3|.*all_below_a_folder|.*made_does_not|.*hides_no_other
        sources::.*crates_folder_counts|.*beside_the_sources
        switch::.*one_clear_line
        configuration::.*case_counts_but
        harmless::.*belongs_to_it|.*it_is_the_compiler|.*rustup_starts_both
        install::.*names_the_folder
        stamp::.*known_what_was
        fingerprints::.*profile_was_built_before
        harmless::.*read_untold|.*by_what_rustc_read|.*another_index
        inputs::TestWhatCargoNotedAsInputs|TestWhatRustcRead|.*read_elsewhere
        target_dir::TestInvalidating|TestWhatLiesThere|.*takes_what_build_scripts
        units::.*bears_its_hash|.*has_no_hash|.*in_the_second_layout
    """,
    "stand-ins for what Windows has itself": """
        subprocesses::.*no_proc|.*ends_with_this_one
    """,
    "a POSIX shell, and terminals": """
        startup::.*users_site_packages|.*closed_standard_streams|.*home_that_is_gone
        env::.*for_(sh|fish)_
        doctor::.*is_about_the_front_end|TestAFrontEndThatIsNotServed|.*on_a_terminal
    """,
    "flock": """
        build_dir::TestHolding::.*(waits|interrupted)|.*says_that_it_waits
        builds::.*cannot_tell_what_is_in_use
        freshness::.*cargo_works_in_the_folder
        prune::.*(no_locks|build_uses_them|may_go|cannot_be_held)
        set_aside::.*cargo_works_there
        target_dir::.*cargo_works_there
        store::TestOnWindows|.*(was_faster|looked_at|made_anew|waits_for|leaves_nothing_open)|TestHandingOver
    """,
    "locks are a file's on Windows, which stays in its folder": """
        cache::.*leaves_no_|.*missing_stays_so
    """,
    "the system's words for what is missing or in the way": """
        cache::TestAStoreThatCannotBeUsed
        install::.*no_interpreter
        wrapper::.*cannot_be_pruned
    """,
    "names that are not UTF-8": """
        build_dir::.*cannot_be_told_the_path|.*the_path_is_trouble\\[[^{]
        entry::.*not_utf_8|.*white_space
        stamp::.*not_utf_8
    """,
    "the same on all systems, with thousands of files, which take long under Wine": """
        set_aside::TestKilledAtAnyPoint|TestAtEveryMoment|TestErrorsOfTheFileSystem|.*compiler_that_failed
    """,
    "cargo's first layout, which the stand-in for cargo has (windows/test_set_aside_there.py)": """
        set_aside::.*\\[first_layout\\]
    """,
    "signals, exec, and a locale": """
        build_dir::.*by_the_signal|.*cannot_be_run
        files::TestWhatWasLeft
        wrapper::.*(by_signal|signals_are_taken|interruption|the_process_itself|the_locale)
    """,
}


def names_in(folder: str | Path) -> list[str]:
    """Return the names in a folder, but for the file of locks that Windows has beside what is locked."""
    return [name for name in os.listdir(folder) if name != ".locks"]


def posix_only(reason: str) -> pytest.MarkDecorator:
    """Skip a test on Windows."""
    return pytest.mark.skipif(os.name == "nt", reason=f"about POSIX: {reason}")


def skip_what_is_about_posix(items: list[pytest.Item]) -> None:
    """Mark the tests in `ABOUT_POSIX`, where they are not to be run."""
    for reason, patterns in ABOUT_POSIX.items():
        for pattern in patterns.split():
            module, _, test = pattern.partition("::")
            for item in items:
                name = item.nodeid.partition("::")[2]
                if item.path.stem == f"test_{module}" and re.match(test, name.replace(" ", "_")):
                    item.add_marker(posix_only(reason))
