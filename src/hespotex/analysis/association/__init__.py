"""Tests of a cohort over patients: against bulk RNA, between groups, with survival."""
