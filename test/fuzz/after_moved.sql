-- After moved.sql, when nobody moves rows any more: print what is wrong
CALL model.look_into_book();
SELECT model.moved_differences(ARRAY(SELECT report FROM model.report));
SELECT count(*) || ' moved' FROM model.moved;
DELETE FROM deletion_failure;
SELECT remove_deletion_policy('fuzz') \g /dev/null
DELETE FROM deletion_hold;
