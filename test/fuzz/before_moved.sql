-- Before moved.sql
CALL model.break_circles();
CALL model.look();
TRUNCATE model.moved, model.mover, model.stop, model.report;
GRANT USAGE ON SCHEMA s TO job;
GRANT ALL ON ALL TABLES IN SCHEMA s TO job;
