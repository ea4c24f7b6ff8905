SELECT release();
